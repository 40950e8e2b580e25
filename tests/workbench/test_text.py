"""Text for terminals."""

import pytest

from workbench.text import short_number, shortened, visible


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.5"), (1 / 3, "0.3333"), (1e-7, "1e-07"), (float("nan"), "nan")]
)
def test_a_number_has_four_digits(value: float, text: str) -> None:
    assert short_number(value) == text


@pytest.mark.parametrize(
    ("text", "shown", "in_a_log"),
    [
        ("강아지\t1\n2", "강아지\t1\n2", "강아지\t1\n2"),
        ("\x1b[2Jgone", "\\x1b[2Jgone", "\\x1b[2Jgone"),
        ("\x1b[1;31mred\x1b[0m", "\\x1b[1;31mred\\x1b[0m", "\x1b[1;31mred\x1b[0m"),
        ("50 %\r60 %", "50 %\\r60 %", "50 %\r60 %"),
        ("\a\b\x7f\x9b", "\\x07\\x08\\x7f\\x9b", "\\x07\\x08\\x7f\\x9b"),
        ("caf\udce9", "caf\\udce9", "caf\\udce9"),
    ],
)
def test_a_text_cannot_control_a_terminal(text: str, shown: str, in_a_log: str) -> None:
    assert visible(text) == shown
    assert visible(text, colours=True) == in_a_log


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("dog", "dog"),
        (" a\n b ", "a b"),
        ("a" * 10, "a" * 10),
        ("a" * 11, "a" * 9 + "…"),
        (" " * 90 + "b", "…"),
    ],
)
def test_a_long_text_is_cut_to_one_line(text: str, shown: str) -> None:
    assert shortened(text, 10) == shown
