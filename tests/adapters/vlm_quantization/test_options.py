from pathlib import Path

import pytest

from adapters.vlm_quantization.options import IndexOptions, TrainOptions


def test_a_collection_is_found_from_wherever_the_job_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for options in (TrainOptions, IndexOptions):
        assert options(collection="사진/captions.jsonl").collection == str(
            tmp_path / "사진" / "captions.jsonl"
        )
        assert options(collection="emoji").collection == "emoji"
    assert IndexOptions().collection == ""
