"""Text for terminals."""

import pytest

from workbench.text import alternatives, listed, nearest, short, short_number, shortened, shown, visible


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


NAMES = (
    *(f"t2i/R@10@{length}" for length in (128, 64, 8)),
    *(f"drawings/en/t2i/R@10@{length}" for length in (128, 64, 8)),
    *("t2i/R@1@128", "t2i/mAP@128", "f1[macro]", "fail_below"),
)


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [
        ("R@10", ["t2i/R@10@128", "t2i/R@10@64", "t2i/R@10@8"]),
        ("r@10@64", ["t2i/R@10@64", "drawings/en/t2i/R@10@64"]),
        ("T2I/map@128", ["t2i/mAP@128"]),
        ("t2i/R@10@129", ["t2i/R@10@128"]),
        ("R@1", ["t2i/R@1@128"]),
        ("fail_belw", ["fail_below"]),
        ("F1", ["f1[macro]"]),
        ("[", []),
        ("", []),
        ("강아지", []),
        ("x" * 1_000_000, []),
    ],
)
def test_the_nearest_names_hold_what_was_typed_or_look_like_it(wanted: str, meant: list[str]) -> None:
    assert nearest(wanted, NAMES, 3)[: max(len(meant), 1)] == meant


def test_long_values_are_shown_by_their_beginning_and_length() -> None:
    assert shown("dog") == "'dog'"
    assert shown({"a": 1}) == "{'a': 1}"
    assert len(shown("x" * 10_000_000)) < 200
    assert "10,000,000 characters" in shown("x" * 10_000_000)
    assert short("one") == "one"
    assert short("one\ntwo") == "one…"
    assert len(short("x" * 1000, 40)) == 40
    assert listed(["a", "b"]) == "a, b"
    assert listed("abcd", 2) == "a, b and 2 more"
    assert alternatives(["a"]) == "'a'"
    assert alternatives(["a", "b", "c"]) == "'a', 'b' or 'c'"
