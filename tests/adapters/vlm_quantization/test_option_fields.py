"""Types of option values: what a command line or a form gives becomes what a job uses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from adapters.vlm_quantization import option_fields


@pytest.mark.parametrize(
    ("field", "given", "value"),
    [
        (option_fields.Lengths, [64, 8, 64], (8, 64)),
        (option_fields.Languages, "en, ko,", ("en", "ko")),
        (option_fields.Languages, ["en"], ("en",)),
        (option_fields.CollectionSource, ["emoji", "stamps"], "emoji + stamps"),
        (option_fields.EncodingBatch, 0, 0),
        (option_fields.FilePath, "", ""),
    ],
)
def test_values_are_read(field: Any, given: Any, value: Any) -> None:
    assert TypeAdapter(field).validate_python(given) == value


def test_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert TypeAdapter(option_fields.FilePath).validate_python("last.ckpt") == str(tmp_path / "last.ckpt")
    (tmp_path / "model").mkdir()
    assert TypeAdapter(option_fields.EncoderName).validate_python("./model") == str(tmp_path / "model")


@pytest.mark.parametrize(
    ("field", "given", "says"),
    [(option_fields.Lengths, [12], "supported: 8, 16"), (option_fields.EncodingBatch, -1, "greater than or")],
)
def test_bad_values_are_refused(field: Any, given: Any, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        TypeAdapter(field).validate_python(given)
