"""Text for terminals."""

import pytest

from workbench.text import short_number


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.5"), (1 / 3, "0.3333"), (1e-7, "1e-07"), (float("nan"), "nan")]
)
def test_a_number_has_four_digits(value: float, text: str) -> None:
    assert short_number(value) == text
