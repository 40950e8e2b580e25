"""What every adapter promises, walked for each: the toy without torch, and each real one.

The promises are ``workbench.testing``'s, for other people's adapters too; here each of ours says how small
its options must be for a test, and keeps two more promises.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import workbench as wb
from adapters.vlm_quantization.dummy import write_dummy_collection
from tests.adapters import toy
from tests.adapters.vlm_quantization import shapes
from workbench.testing import AdapterContract, Outcome


class Ours(AdapterContract):
    """What the adapters of this project promise beyond the contract."""

    def test_nothing_of_the_contract_is_left_out(self, outcome: Outcome) -> None:
        """The contract skips what an adapter does not offer; ours offer all of it."""
        assert outcome.index is not None
        assert outcome.adapter.offers("search_by_text")

    def test_evaluation_has_a_table_and_a_curve(self, outcome: Outcome) -> None:
        kinds = [view.kind for view in outcome.results["eval"].views]
        assert "retrieval_table" in kinds
        assert "curve" in kinds

    def test_it_is_tried_in_both_languages(self, outcome: Outcome) -> None:
        assert {sample.language for sample in outcome.searcher.sample_queries()} == {"en", "ko"}


class TestToy(Ours):
    adapter = toy.adapter
    picture = b"dog"


class TestVlmQuantization(Ours):
    adapter = "vlm_quantization"
    query = "빨간 원"

    @classmethod
    def options(cls, folder: Path) -> dict[str, dict[str, Any]]:
        collection = str(write_dummy_collection(folder / "shapes"))
        train = shapes.options(collection=collection, experiment="shapes").model_dump()
        return {"train": train, "index_build": {"name": "도형"}}


class _Silent(wb.BaseAdapter):
    """Offers next to nothing, and says nothing about it."""

    name, title = "silent", "Silent"


class TestAnAdapterThatOffersNothing(AdapterContract):
    """The contract is kept by leaving things out, too."""

    adapter = _Silent()
