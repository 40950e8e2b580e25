"""The adapter contract, tested for the toy without torch and for each real adapter.

The contract is in ``workbench.testing``, also for other people's adapters; here each of ours sets small
options for the test, and has to meet further requirements.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import workbench as wb
from adapters.vlm_quantization.dummy import write_dummy_collection
from tests.adapters import toy
from tests.adapters.vlm_quantization import shapes
from workbench.testing import AdapterContract, Outcome


class Ours(AdapterContract):
    """Requirements for the adapters of this project beyond the contract."""

    def test_no_part_of_the_contract_is_skipped(self, outcome: Outcome) -> None:
        """The contract skips what an adapter does not offer; ours offer everything."""
        assert outcome.index is not None
        assert outcome.adapter.offers("search_by_text")

    def test_evaluation_has_a_table_and_a_curve(self, outcome: Outcome) -> None:
        kinds = [view.kind for view in outcome.results["eval"].views]
        assert "retrieval_table" in kinds
        assert "curve" in kinds

    def test_sample_queries_are_in_both_languages(self, outcome: Outcome) -> None:
        assert {sample.language for sample in outcome.searcher.sample_queries()} == {"en", "ko"}


class TestToy(Ours):
    adapter = toy.adapter
    picture = b"dog"

    @classmethod
    def options(cls, folder: Path) -> Mapping[str, Mapping[str, Any]]:
        return {"eval": {"k": 4}}


class TestVlmQuantization(Ours):
    adapter = "vlm_quantization"
    query = "빨간 원"

    @classmethod
    def options(cls, folder: Path) -> dict[str, dict[str, Any]]:
        collection = str(write_dummy_collection(folder / "shapes"))
        train = shapes.options(collection=collection, experiment="shapes").model_dump()
        return {"train": train, "index_build": {"name": "도형"}}


class _Silent(wb.BaseAdapter):
    """Offers almost nothing, without declaring it."""

    name, title = "silent", "Silent"


class TestAnAdapterThatOffersNothing(AdapterContract):
    """An adapter also meets the contract if it leaves things out."""

    adapter = _Silent()
