"""Names of an evaluation's numbers, and what may not be measured together."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import workbench as wb
from adapters.vlm_quantization.evaluate.metric_names import headlines
from adapters.vlm_quantization.evaluate.seeds import refuse_other_data
from adapters.vlm_quantization.evaluate.subject import Origin


def test_a_headline_is_the_mean_over_languages_of_the_first_part() -> None:
    metrics = {
        "drawings/en/t2i/R@1@64": 0.25,
        "drawings/ko/t2i/R@1@64": 0.75,
        "drawings/en/t2i/mAP@64": 0.5,  # not measured in both: no mean
        "concepts/en/t2i/R@1@64": 0.0,
    }
    assert headlines(metrics, ["en", "ko"]) == {"t2i/R@1@64": 0.5}
    assert headlines(metrics, ["en"]) == {"t2i/R@1@64": 0.25, "t2i/mAP@64": 0.5}
    assert headlines({"concepts/en/t2i/R@1@64": 0.125}, ["en"]) == {"t2i/R@1@64": 0.125}
    assert headlines({}, ["en"]) == {}


def test_a_checkpoint_that_may_have_seen_what_is_held_out_is_refused() -> None:
    def origin(split: str) -> Origin:
        return Origin("", split, 0, "", [])

    splits, run = SimpleNamespace(fingerprints={"train": "a"}), SimpleNamespace(id=7)
    collection = SimpleNamespace(name="emoji")
    refuse_other_data(run, "best", origin("a"), splits, collection)
    with pytest.raises(wb.BadInput, match="best of run 7"):
        refuse_other_data(run, "best", origin("b"), splits, collection)
