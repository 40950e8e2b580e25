"""The language of filters: what is read, what is refused and where; what is written reads the same."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import workbench as wb
from tests.workbench.conftest import make_index
from workbench.search import filters
from workbench.search.elsewhere import RemoteSearcher
from workbench.search.filters import AllOf, AnyOf, Condition, Filter, FilterValue, Not, Part, parse_filter
from workbench.search.service.holder import IndexDesk


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("label:animal and language:ko", "label:animal and language:ko"),
        ("label:animal language:ko", "label:animal and language:ko"),
        (" label : animal AND NOT style=plain ", "label:animal and not style:plain"),
        ("a:1 b:2 or c:3", "a:1 and b:2 or c:3"),
        ("a:1 (b:2 or c:3)", "a:1 and (b:2 or c:3)"),
        ("((a:1))", "a:1"),
        ("(a:1 and b:2) and c:3", "a:1 and b:2 and c:3"),
        ("not (a:1 or b:2)", "not (a:1 or b:2)"),
        ("not not a:1", "not not a:1"),
        ("not a:1 or b:2", "not a:1 or b:2"),
        ('label:(cat , "red heart",do*)', 'label:(cat, "red heart", do*)'),
        ("label:(cat)", "label:cat"),
        ('caption:"red \\"heart\\" \\\\ \\x"', 'caption:"red \\"heart\\" \\\\ \\\\x"'),
        ("caption:“빨간 하트”", 'caption:"빨간 하트"'),
        ("label:고양이", "label:고양이"),
        (unicodedata.normalize("NFD", "label:고양이"), "label:고양이"),
        ('label:"and"', 'label:"and"'),
        ('"and":"not*"', '"and":"not*"'),
        ('"file size">5', '"file size">5'),
        ('label:"red h"*', 'label:"red h"*'),
        ("label:*", "label:*"),
        ('label:""', 'label:""'),
        ("id:1F436:ko:0", "id:1F436:ko:0"),
        ("path:a=b>c.png", "path:a=b>c.png"),
        ("size >= 100000 date<2024-05", "size>=100000 and date<2024-05"),
        ("orange:1 android:2", "orange:1 and android:2"),
    ],
)
def test_a_filter_is_read_and_written_in_one_form(text: str, written: str) -> None:
    assert str(parse_filter(text)) == written
    assert parse_filter(written) == parse_filter(text)


@pytest.mark.parametrize(
    ("text", "column", "problem"),
    [
        ("", 1, "expected a condition, found the end"),
        ("   ", 4, "expected a condition, found the end"),
        ("label:", 7, "expected a value after 'label:', found the end"),
        ("label: and x:1", 8, "expected a value after 'label:', found 'and'"),
        ("label:red heart", 11, "'heart' is no condition: ':' is missing"),
        ("a:1 and", 8, "expected a condition, found the end"),
        ("a:1 and or b:2", 9, "expected a condition, found 'or'"),
        ("or a:1", 1, "expected a condition, found 'or'"),
        ("a:1 )", 5, r"unexpected '\)'"),
        ("(a:1", 5, r"expected '\)' for the '\(' at column 1, found the end"),
        ("a:(b, c", 8, r"expected ',' or '\)' for the '\(' at column 3, found the end"),
        ("a:(b c)", 6, r"expected ',' or '\)' for the '\(' at column 3, found 'c'"),
        ("a:()", 4, r"expected a value after 'a:', found '\)'"),
        ("a>(1, 2)", 3, "'>' takes one value, not several"),
        ("a>1*", 3, r"'>' takes a value without '\*'"),
        ('a:"b', 3, 'the quote is not closed by "'),
        ("a:“b", 3, "the quote is not closed by ”"),
        ("a:b*c", 4, r"'\*' is allowed only at the end of a value"),
        ("a:**", 3, r"'\*' is allowed only at the end of a value"),
        ("a!=b", 2, "'!' is not known after 'a'"),
        ("a::b", 3, "expected a value after 'a:', found ':'"),
        ("a:\ud800", 3, "unpaired surrogate"),
        ("라벨:(고양이", 8, r"expected ',' or '\)'"),
        ("(" * 21 + "a:1" + ")" * 21, 21, "more than 20 levels"),
        ("not " * 21 + "a:1", 81, "more than 20 levels"),
        (" ".join(["a:1"] * 51), 201, "more than 50 conditions"),
        (f"a:({','.join('b' * 1001)})", 2004, "more than 1,000 values"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(text: str, column: int, problem: str) -> None:
    with pytest.raises(wb.BadOptions, match=f"^filter, column {column}: .*{problem}") as caught:
        parse_filter(text)
    assert [name for name, _ in caught.value.problems] == ["filter"]
    first, line, caret = caught.value.message.split("\n")
    assert caught.value.problems[0][1] == first
    assert caret.strip() == "^"
    if column <= 40 and text.isascii():
        assert line[2:].rstrip() == text.rstrip()
        assert caret.index("^") - 2 == column - 1


def test_the_caret_is_below_its_letter_also_behind_wide_ones_and_in_long_filters() -> None:
    with pytest.raises(wb.BadOptions) as caught:
        parse_filter("라벨:고양이 강아지")
    assert caught.value.message.splitlines()[1:] == ["  라벨:고양이 강아지", " " * 2 + " " * 12 + "^"]
    with pytest.raises(wb.BadOptions) as caught:
        parse_filter("a:" + "b" * 200 + "  oops " + "c" * 200)
    _, line, caret = caught.value.message.splitlines()
    assert line.strip().startswith("…b")
    assert line.endswith("…")
    assert line[caret.index("^") :].startswith("oops")


def test_the_length_is_bounded_and_the_type_checked() -> None:
    parse_filter("a:" + "b" * (filters.MAX_FILTER_CHARACTERS - 2))
    with pytest.raises(wb.BadOptions, match="at most 10,000 characters, got 10,001"):
        parse_filter("a:" + "b" * (filters.MAX_FILTER_CHARACTERS - 1))
    with pytest.raises(wb.BadInput, match="must be text, got int"):
        parse_filter(5)  # type: ignore[arg-type]


def test_hints_say_what_to_type() -> None:
    hints = {"label: not": 'label:"not"', "a!=b": "not a:value", "a:(b c)": 'a:(one, "the other")', "a": ":"}
    for text, hint in hints.items():
        with pytest.raises(wb.BadOptions) as caught:
            parse_filter(text)
        assert hint in caught.value.hint


def test_an_unknown_name_is_answered_with_the_one_that_is_meant() -> None:
    tree = parse_filter("a:1 lable:2")
    error = tree.unknown("unknown field 'lable'", "lable", 4, what="Fields", known=["label", "style"])
    assert "column 5: unknown field 'lable'; did you mean 'label'?" in error.message
    assert error.hint == "Fields: label, style."
    assert tree.unknown("no", "zzz", 0, what="Fields", known=[]).hint == ""


def test_conditions_are_combined_as_they_are_joined() -> None:
    tree = parse_filter("a:1 and not (b:2 or c:3) or d:4")
    assert [one.field for one in tree.conditions()] == ["a", "b", "c", "d"]
    for bits in range(16):
        has = {name: bool(bits >> place & 1) for place, name in enumerate("abcd")}
        # numbers of one bit have the operators that sets and arrays have
        value = tree.combine(lambda condition, has=has: -int(has[condition.field]))  # type: ignore[misc]
        assert bool(value) == ((has["a"] and not (has["b"] or has["c"])) or has["d"])


# --- searchers ----------------------------------------------------------------------------------------------


def test_a_searcher_lists_fields_here_and_through_a_service(
    workspace: wb.Workspace, toy: wb.BaseAdapter
) -> None:
    make_index(workspace.path, "words")
    here = workspace.open_search("words")
    assert [(one.name, one.values, one.more) for one in here.filter_fields()] == [
        ("letter", [("d", 2), ("강", 2)], True)
    ]
    assert sorted(hit.id for hit in here.by_text("dog", filter="letter:d")) == ["dog", "dot"]
    desk = IndexDesk(workspace.indexes, "words")
    told = desk.open()
    assert "filter_fields" in told["offers"]
    there = RemoteSearcher(told, lambda request: json.loads(json.dumps(desk.answer(request))))
    assert there.filter_fields() == here.filter_fields()
    silent = RemoteSearcher({**told, "offers": []}, desk.answer)
    for searcher in (silent, wb.Searcher(wb.BaseAdapter(), None, "x")):
        with pytest.raises(wb.NotSupported, match="filter_fields"):
            searcher.filter_fields()


# --- properties ---------------------------------------------------------------------------------------------

# Texts of all characters but halves of one, in NFC; those of the language are more frequent.
_TEXTS = st.text(
    st.one_of(st.sampled_from(' ()":,*<>=!\\“”andortno한글é'), st.characters(exclude_categories=["Cs"])),
    max_size=8,
).map(lambda text: unicodedata.normalize("NFC", text))

_VALUES = st.builds(FilterValue, _TEXTS, st.booleans())

_EQUAL = st.builds(Condition, _TEXTS, st.just(":"), st.lists(_VALUES, min_size=1, max_size=3).map(tuple))
_ORDER = st.builds(
    Condition,
    _TEXTS,
    st.sampled_from(["<", "<=", ">", ">="]),
    st.builds(FilterValue, _TEXTS).map(lambda value: (value,)),
)


def _joined(parts: st.SearchStrategy[Part]) -> st.SearchStrategy[Part]:
    several = st.lists(parts, min_size=2, max_size=3)
    return st.one_of(
        parts.map(Not),
        several.map(lambda ones: AllOf(filters._flat(ones, AllOf))),
        several.map(lambda ones: AnyOf(filters._flat(ones, AnyOf))),
    )


_PARTS = st.recursive(st.one_of(_EQUAL, _ORDER), _joined, max_leaves=8)


@settings(deadline=None, max_examples=100)
@given(part=_PARTS)
def test_every_filter_reads_as_it_was_written(part: Part) -> None:
    assert parse_filter(str(part)) == Filter(part)


@settings(deadline=None, max_examples=150)
@given(text=st.one_of(st.text(), st.text('ab:()"“”*,<>=!\\ \nandortno', max_size=40)))
def test_any_text_is_read_or_refused_with_its_place(text: str) -> None:
    read, refused = None, ""
    try:
        read = parse_filter(text)
    except wb.BadOptions as error:
        refused = error.message
    assert (read is None) == refused.startswith("filter, column ")
    assert len(refused) < 1_000
    assert read is None or parse_filter(str(read)) == read
