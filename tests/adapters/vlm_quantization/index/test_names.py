import numpy as np
import pytest

from adapters.vlm_quantization.index import names
from adapters.vlm_quantization.index.blocks import CheckedFile, CheckedRows
from adapters.vlm_quantization.index.names import NameFile, Names, NameWriter, name_key

ITEMS = [
    {"caption": "Dog", "captions": {"en": ["Dog", "a good dog"], "ko": ["개"]}},
    {"caption": "dog!", "captions": {"en": ["dog!"]}},
    {"caption": "cat"},
    {"caption": "🐱"},
]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("dog", [0, 1]),
        (" ＤＯＧ ", [0, 1]),
        ("A good dog.", [0]),
        ("개", [0]),
        ("🐱", [3]),
        ("do", []),
        ("", []),
    ],
)
def test_items_are_found_by_their_words(text, rows):
    assert Names(ITEMS).rows(text).tolist() == rows


def test_equal_keys_are_compared_as_text(monkeypatch):
    monkeypatch.setattr(names.zlib, "crc32", lambda data: 7)
    assert Names(ITEMS).rows("cat").tolist() == [2]


def test_the_names_of_very_many_items_are_not_read(monkeypatch):
    monkeypatch.setattr(names, "MOST_NAMED", 3)
    assert Names(ITEMS).rows("dog").tolist() == []
    assert Names([]).rows("dog").tolist() == []


def test_a_name_without_words_is_itself():
    assert (name_key(" 🐱 "), name_key("The  CAT!")) == ("🐱", "the cat")


# --- names in files -----------------------------------------------------------------------------------------


def stored(tmp_path, items):
    """Write the names of items, and open them."""
    writer = NameWriter(tmp_path)
    for row, item in enumerate(items):
        writer.add(row, item)
    parts = list(writer.merged())
    opened = []
    for at, name in enumerate(("names", "named")):
        path = tmp_path / f"{name}.npy"
        np.save(path, np.concatenate([part[at] for part in parts]))
        opened.append(CheckedRows(CheckedFile(path), np.lib.format.open_memmap(path, mode="r")))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["named.npy", "names.npy"]
    return NameFile(*opened, len(items))


@pytest.mark.parametrize("run", [1, 2, 3, 1_000])
def test_stored_names_are_found_like_read_ones(tmp_path, monkeypatch, run):
    monkeypatch.setattr(names, "RUN", run)
    some = [*ITEMS, *({"caption": f"thing {i % 7}"} for i in range(100)), *ITEMS]
    found = stored(tmp_path, some)
    found.check()
    for text in (
        "dog",
        " ＤＯＧ ",
        "A good dog.",
        "개",
        "🐱",
        "cat",
        "do",
        "",
        "thing 3",
        "Thing 6!",
        "thing",
    ):
        assert found.rows(text).tolist() == Names(some).rows(text).tolist(), text


def test_a_name_of_more_items_than_are_sorted_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(names, "RUN", 10)
    found = stored(tmp_path, [{"caption": "same"} for _ in range(95)])
    assert found.rows("same").tolist() == list(range(95))


def test_no_names_at_all(tmp_path):
    assert stored(tmp_path, []).rows("dog").tolist() == []
