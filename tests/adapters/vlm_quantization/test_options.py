from pathlib import Path

import pytest
from pydantic import ValidationError

from adapters.vlm_quantization.options import IndexOptions, TrainOptions


def test_the_path_of_a_collection_does_not_depend_on_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for options in (TrainOptions, IndexOptions):
        assert options(collection="사진/captions.jsonl").collection == str(
            tmp_path / "사진" / "captions.jsonl"
        )
        assert options(collection="emoji").collection == "emoji"
    assert IndexOptions().collection == ""


def test_lengths_are_supported_ones_without_repetitions_in_order() -> None:
    assert TrainOptions().lengths == (8, 16, 32, 64, 128)
    assert TrainOptions.model_validate({"lengths": [64, 8, 64]}).lengths == (8, 64)
    with pytest.raises(ValidationError, match=r"lengths \[12\].* 8, 16, 32, 64, 128"):
        TrainOptions.model_validate({"lengths": [8, 12]})
    with pytest.raises(ValidationError):
        TrainOptions.model_validate({"lengths": []})


@pytest.mark.parametrize(
    ("value", "languages"), [("en", ("en",)), ("en, ko", ("en", "ko")), (["ko"], ("ko",)), ("", ()), ((), ())]
)
def test_languages_may_be_a_list_or_words_of_a_command_line(
    value: object, languages: tuple[str, ...]
) -> None:
    assert TrainOptions.model_validate({"languages": value}).languages == languages


def test_a_text_tower_is_one_of_three() -> None:
    assert TrainOptions().text_tower == "both"
    with pytest.raises(ValidationError, match="'multilingual', 'ngrams' or 'both'"):
        TrainOptions(text_tower="bert")  # type: ignore[arg-type]


def test_a_consistency_weight_without_views_is_refused() -> None:
    with pytest.raises(ValidationError, match="set views to 1 or more"):
        TrainOptions(consistency=0.1)
    assert TrainOptions(consistency=0.1, views=1).views == 1
