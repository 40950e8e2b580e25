import pytest

from adapters.vlm_quantization.index import names
from adapters.vlm_quantization.index.names import Names, name_key

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
