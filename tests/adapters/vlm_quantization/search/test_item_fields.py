"""Conditions on the columns of a table of items, value by value."""

import json
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pytest

import workbench as wb
from adapters.vlm_quantization.index.item_table import batch_of
from adapters.vlm_quantization.search import item_fields
from adapters.vlm_quantization.search.item_fields import fields_of, listing, match, other_fields
from tests.adapters.vlm_quantization.search.items import TableItems


def matched(items, text, fields=None):
    tree = wb.parse_filter(text)
    (condition,) = tree.conditions()
    found = match(items, (fields or fields_of(items))[condition.field], condition, tree)
    return np.flatnonzero(found.mask).tolist(), [value.text for value in found.absent]


@pytest.fixture(params=["one batch", "sliced", "dictionary", "large"])
def texts(request):
    """A column of texts and one of lists, in the forms that Arrow has for them."""
    styles = ["plain", None, "", "framed", "plain", "고양이"]
    labels = [["cat", "dog"], None, [], ["dog"], [None, "고양이"], ["d\u0301"]]
    if request.param == "sliced":
        whole = pa.table(
            {"style": ["x", *styles, "y"], "labels": pa.array([["z"], *labels, ["z"]], pa.list_(pa.string()))}
        )
        return TableItems(pa.concat_tables([whole.slice(1, 2), whole.slice(3, 0), whole.slice(3, 4)]))
    style = pa.array(styles)
    style = style.dictionary_encode() if request.param == "dictionary" else style
    kind = pa.large_string() if request.param == "large" else pa.string()
    lists = pa.large_list(kind) if request.param == "large" else pa.list_(kind)
    style = style.cast(kind) if request.param == "large" else style
    return TableItems(pa.table({"style": style, "labels": pa.array(labels, lists)}))


@pytest.mark.parametrize(
    ("text", "rows", "absent"),
    [
        ("style:plain", [0, 4], []),
        ("style:(plain, framed)", [0, 3, 4], []),
        ("style:(plain, planned)", [0, 4], ["planned"]),
        ("style:pl*", [0, 4], []),
        ("style:(z*, plain)", [0, 4], ["z"]),
        ("style:*", [0, 3, 4, 5], []),
        ('style:""', [1, 2], []),
        ('style:("", framed)', [1, 2, 3], []),
        ("style:고양이", [5], []),
        ("label:dog", [0, 3], []),
        ("label:(cat, 고양이)", [0, 4], []),
        ("label:*", [0, 3, 4, 5], []),
        ('label:""', [1, 2], []),
        ("label:고*", [4], []),
        ("label:\u1e0f", [], ["\u1e0f"]),
        ("label:d\u0301", [5], []),
    ],
)
def test_texts_are_whole_or_begin_and_lists_have_one(texts, text, rows, absent):
    assert matched(texts, text) == (rows, absent)


def test_texts_that_are_stored_decomposed_are_found():
    stored = ["\u1100\u1169", "e\u0301t\u00e9", "e\u0301te\u0301"]
    items = TableItems(pa.table({"style": stored, "caption": stored}))
    assert matched(items, "style:고") == ([0], [])
    assert matched(items, "caption:고") == ([0], [])
    assert matched(items, "style:été") == ([2], [])  # half decomposed is another text, to Arrow and to us


def test_captions_contain_words_in_any_case_and_in_every_language():
    items = [
        {
            "id": "a",
            "caption": "file.png",
            "subtitle": "",
            "captions": {"en": ["A Red Heart"], "ko": ["하트"]},
        },
        {"id": "b", "caption": "x", "subtitle": "", "captions": {}},
        {"id": "c", "caption": "x", "subtitle": "", "captions": {"en": ["green", "blue (red)"]}},
        {"id": "d", "caption": "red", "subtitle": ""},
    ]
    stored = TableItems(pa.Table.from_batches([batch_of(items[:2], "images"), batch_of(items[2:], "images")]))
    assert matched(stored, "caption:red") == ([0, 2], [])
    assert matched(stored, 'caption:"red heart"') == ([0], [])
    assert matched(stored, 'caption:"(RED"') == ([2], [])
    assert matched(stored, "caption:gr*") == ([2], [])
    assert matched(stored, "caption:(하트, blue)") == ([0, 2], [])
    assert matched(stored, "caption:nowhere") == ([], [])
    assert matched(stored, "caption:*") == ([0, 2], [])
    assert matched(stored, "language:ko") == ([0], [])
    assert matched(stored, "language:(en, fr)") == ([0, 2], ["fr"])
    assert matched(stored, 'language:""') == ([1, 3], [])
    assert {"id", "label", "size", "modified", "split"} <= fields_of(stored).keys()
    assert not {"subtitle", "other", "captions", "labels", "file_size"} & fields_of(stored).keys()


@pytest.mark.parametrize("kind", [pa.int8(), pa.int64(), pa.uint64(), pa.float32(), pa.float64()])
@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("n:3", [1]),
        ("n:3.0", [1]),
        ("n:3.5", []),
        ("n:(1, 3, 99)", [0, 1]),
        ("n>1", [1, 3]),
        ("n>1.5", [1, 3]),
        ("n>=3", [1, 3]),
        ("n<3", [0]),
        ("n<=3", [0, 1]),
        ("n<3.5", [0, 1]),
        ("n>=2.5", [1, 3]),
        ("n<1e20", [0, 1, 3]),
        ("n>-1e20", [0, 1, 3]),
        ("n>1e20", []),
        ("n<-1e20", []),
        ("n:*", [0, 1, 3]),
        ('n:""', [2]),
    ],
)
def test_numbers_of_every_type_are_compared_exactly(kind, text, rows):
    items = TableItems(pa.table({"n": pa.array([1, 3, None, 127], kind)}))
    assert matched(items, text) == (rows, [])


def test_large_numbers_keep_their_last_digit():
    items = TableItems(pa.table({"n": pa.array([2**53, 2**53 + 1, 2**63 - 1], pa.int64())}))
    assert matched(items, f"n:{2**53 + 1}")[0] == [1]
    assert matched(items, f"n>{2**53}")[0] == [1, 2]
    assert matched(items, f"n>={2**63 - 1}")[0] == [2]
    assert matched(items, f"n<={2**63}")[0] == [0, 1, 2]
    assert matched(TableItems(pa.table({"n": [1.5, float("nan")]})), "n<=2")[0] == [0]


_DAYS = [datetime(2023, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2024, 2, 29, 12, 30, tzinfo=UTC), None,
         datetime(2024, 3, 1, tzinfo=UTC), datetime(1969, 7, 20, tzinfo=UTC)]  # fmt: skip


def stored_days(form):
    if form == "text":
        return pa.array([day and day.strftime("%Y-%m-%dT%H:%M:%S") for day in _DAYS] + ["about 2024"])
    if form == "date32":
        return pa.array([day and day.date() for day in _DAYS], pa.date32())
    if form == "nanoseconds of a file":
        return pa.array([day and int(day.timestamp()) * 10**9 for day in _DAYS], pa.int64())
    return pa.array([day and day.replace(tzinfo=None) for day in _DAYS], pa.timestamp(form))


@pytest.mark.parametrize("form", ["s", "ms", "us", "ns", "date32", "text", "nanoseconds of a file"])
@pytest.mark.parametrize(
    ("compared", "rows"),
    [
        (">=2024", [1, 3]),
        (">2024", []),
        ("<2024", [0, 4]),
        ("<=2024", [0, 1, 3, 4]),
        (">2023", [1, 3]),
        (">2024-02", [3]),
        ("<=2024-02", [0, 1, 4]),
        (">=2024-02-29", [1, 3]),
        (">2024-02-29", [3]),
        ("<2024-02-29", [0, 4]),
        (">=2024-03-01T00:00", [3]),
        (">=1969-07-20T00:00:00Z", [0, 1, 3, 4]),
        ("<1970", [4]),
    ],
)
def test_dates_are_periods(form, compared, rows):
    name = "modified" if form == "nanoseconds of a file" else "day"
    column = "file_mtime" if form == "nanoseconds of a file" else "day"
    items = TableItems(pa.table({column: stored_days(form)}))
    assert matched(items, f"{name}{compared}") == (rows, [])
    if form == "s":
        assert matched(items, "day:2024-02")[0] == [1]
        assert matched(items, "day:2024-02-29T12:30")[0] == [1]
        assert matched(TableItems(pa.table({"day": pa.array([date(2024, 1, 1)], pa.date64())})), "day:2024")[
            0
        ]


def test_flags_are_true_or_false():
    items = TableItems(pa.table({"flag": [True, False, None]}))
    assert matched(items, "flag:true")[0] == [0]
    assert matched(items, "flag:(no, YES)")[0] == [0, 1]
    assert matched(items, "flag:*")[0] == [0, 1]
    assert matched(items, 'flag:""')[0] == [2]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("flag:5", "column 6: 'flag' is true or false, got '5'"),
        ("flag:t*", "column 6: 'flag' is true or false"),
        ("flag>true", "column 1: 'flag' is true or false and has no order"),
        ("n:many", "column 3: 'n' is a number, got 'many'"),
        ("n>0x10", "column 3: 'n' is a number"),
        ("n>1e999999999", "column 3: 'n' is a number"),
        ("n>nan", "column 3: 'n' is a number"),
        ("n:1*", r"column 3: 'n' is a number, and '\*' is for texts"),
        ("day>yesterday", "column 5: 'day' is a date, got 'yesterday'"),
        ("day>2024-13", "column 5: 'day' is a date"),
        ("day>2023-02-29", "column 5: 'day' is a date"),
        ("day>0000", "column 5: 'day' is a date"),
        ("style>3", "column 7: 'style' is text, which has an order only as dates, got '3'"),
        ("caption>2024", "column 1: 'caption' is text and has no order"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_its_place(text, problem):
    columns = {"flag": [True], "n": [1], "day": [date(2024, 1, 1)], "style": ["a"], "caption": ["b"]}
    with pytest.raises(wb.BadOptions, match=problem):
        matched(TableItems(pa.table(columns)), text)


def test_fields_without_a_column_are_read_from_their_json():
    objects = [
        {"stars": 4, "author": "김", "seen": True, "tags": ["a", "b"], "mixed": 1, "deep": {"x": 1}},
        None,
        {"stars": 4.5, "author": None, "seen": False, "tags": "c", "mixed": "1"},
        {},
    ]
    items = TableItems(pa.table({"other": [None if one is None else json.dumps(one) for one in objects]}))
    assert fields_of(items) == {}
    known = other_fields(items)
    assert {name: one.kind for name, one in known.items()} == {
        **{"stars": "number", "author": "text", "seen": "flag"},
        **{"tags": "text", "mixed": "text", "deep": "text"},
    }
    assert matched(items, "stars>4", known)[0] == [2]
    assert matched(items, "author:김", known)[0] == [0]
    assert matched(items, "seen:false", known)[0] == [2]
    assert matched(items, "tags:(a, c)", known)[0] == [0, 2]
    assert matched(items, "mixed:1", known)[0] == [0, 2]
    assert matched(items, 'author:""', known)[0] == [1, 2, 3]
    assert listing(items, known["tags"]).counts == {"a": 1, "b": 1, "c": 1}


def test_values_are_counted_up_to_a_bound(monkeypatch):
    many = TableItems(
        pa.table({"group": ["a", "b", "a", None, ""] * 4, "style": [str(n) for n in range(20)]})
    )
    known = fields_of(many)
    assert listing(many, known["group"]) == ({"a": 8, "b": 4}, True)
    monkeypatch.setattr(item_fields, "MOST_LISTED", 10)
    assert listing(many, known["style"]) == ({}, False)
    batches = pa.Table.from_batches(pa.table({"group": ["a"] * 5 + ["b"] * 5}).to_batches(max_chunksize=1))
    monkeypatch.setattr(item_fields, "ROWS_COUNTED", 5)
    counted = listing(TableItems(batches), known["group"])
    assert counted.counts == {"a": 3, "b": 2}  # every second batch
    assert not counted.complete


def test_only_the_column_of_the_condition_is_read(texts):
    matched(texts, "style:plain")
    assert texts.read == ["style"]
