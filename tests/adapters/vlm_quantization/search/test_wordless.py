"""Emoji in queries: split into symbols, named by the index or by Unicode, and left out beside words."""

from types import SimpleNamespace

import pytest

import workbench as wb
from adapters.vlm_quantization.search.wordless import searchable, symbols, unicode_name


class Captions(list):
    def find(self, item_id):
        return next((row for row, item in enumerate(self) if item["id"] == item_id), None)


ROWS = [
    ("1F436", "en", "puppy"),
    ("2764", "en", "red heart"),
    ("1F1F0-1F1F7", "en", "flag: South Korea"),
    ("1F44D", "ko", "좋아요"),
    ("0031-20E3", "en", "keycap: 1"),
    ("1FA77", "en", "pink heart"),  # newer than the Unicode of Python 3.11
    ("2194", "en", "left-right arrow"),  # mathematics to Unicode
    ("24C2", "en", "circled M"),  # also a letter
]
INDEX = SimpleNamespace(
    manifest=SimpleNamespace(languages=["en", "ko"]),
    sides={
        "captions": SimpleNamespace(
            items=Captions({"id": f"{code}:{language}:0", "caption": name} for code, language, name in ROWS)
        )
    },
)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("🐶", ["🐶"]),
        ("❤️🐶", ["❤️", "🐶"]),
        ("🇰🇷🇯🇵", ["🇰🇷", "🇯🇵"]),
        ("👩🏽‍🚀 !", ["👩🏽‍🚀"]),
        ("1️⃣ #️⃣ 2 #", ["1️⃣", "#️⃣"]),
        ("🏴󠁧󠁢󠁿", ["🏴󠁧󠁢󠁿"]),
        ("🩷🫩", ["🩷", "🫩"]),
        ("‼️ ⁉ 〰️ ↔️", ["‼️", "⁉", "〰️", "↔️"]),
        ("🐶1️⃣ ≤️", ["🐶", "1️⃣"]),
        ("🐶\u200ddog x\ufe0f", ["🐶\u200d"]),
        ("?!", []),
        ("\ufe0f\u200d", []),
    ],
)
def test_a_sequence_is_one_symbol(text, parts):
    assert symbols(text) == parts


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("🐶", "puppy"),
        ("❤", "red heart"),
        ("❤️", "red heart"),
        ("🇰🇷", "flag: South Korea"),
        ("🇯🇵", "flag JP"),
        ("👍🏽", "좋아요"),
        ("1️⃣", "keycap: 1"),
        ("🐱", "cat face"),
        ("👩🏽‍🚀", "woman rocket"),
        ("🐶🐱🐶", "puppy cat face"),
        ("🩷", "pink heart"),
        ("↔️", "left-right arrow"),
        ("Ⓜ️", "circled M"),
    ],
)
def test_the_name_of_the_index_comes_before_that_of_unicode(query, text):
    searched, names, note = searchable(INDEX, f" {query} ")
    assert searched == text == " ".join(names)
    assert note.startswith(f"searched for “{text}”, the name of ")


@pytest.mark.parametrize("query", ["dog", "1", "狗", "कि", "25℃", "㎏", "C++", "5 * 3"])
def test_a_query_with_words_is_searched_for_as_it_is(query):
    assert searchable(INDEX, query) == (query, (query,), "")


@pytest.mark.parametrize(
    ("query", "text", "left_out"),
    [
        ("🐶 dog on a sofa", "dog on a sofa", "🐶 is"),
        ("강아지 🐶", "강아지", "🐶 is"),
        ("I ❤️ NY ❤️", "I NY", "❤️ is"),
        ("👩🏽‍🚀moon🇰🇷", "moon", "👩🏽‍🚀 🇰🇷 are"),
        ("1️⃣ 2", "2", "1️⃣ is"),
        ("🫩 tired", "tired", "🫩 is"),  # without any name
        ("Ⓜ️ metro", "metro", "Ⓜ️ is"),
        ("😀😃😄😁😆😅😂🤣😊😇🙂🙃 smile", "smile", "😀 😃 😄 😁 😆 😅 😂 🤣 😊 😇 … are"),
    ],
)
def test_symbols_beside_words_are_left_out_and_the_note_says_so(query, text, left_out):
    note = f"{left_out} left out: symbols are searched for only in a query without words"
    assert searchable(INDEX, query) == (text, (text,), note)


def test_a_symbol_without_a_name_is_not_passed_over_in_silence():
    text, _, note = searchable(INDEX, "🐶🫩")
    assert (text, note) == ("puppy", "searched for “puppy”, the name of 🐶; no name is known for 🫩")


@pytest.mark.parametrize("query", ["!!!", "#", "\u200b", "🇰", "\U000e0067", "\u0378", "🫩", "⁂"])
def test_a_query_without_words_and_names_is_refused(query):
    with pytest.raises(wb.BadInput, match="no letter or digit"):
        searchable(INDEX, query)


def test_unicode_names_what_no_index_does():
    assert (unicode_name("☃"), unicode_name("🇰")) == ("snowman", "")
