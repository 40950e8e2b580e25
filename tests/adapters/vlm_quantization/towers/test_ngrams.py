"""Words and n-grams: those of ordinary text are what models of version 0.2.0 were trained with."""

import unicodedata
import zlib

import pytest

from adapters.vlm_quantization.towers.ngrams import ngram_rows, ngrams, words_of

#: Texts, the number of their n-grams, and the CRC-32 of those in lines, as version 0.2.0 made them.
PINNED = [
    ("dog", 7, 3388098752),
    ("red heart", 20, 841082970),
    ("A Dog’s life – 100% fun!", 35, 3897624056),
    ("happy face", 23, 910141310),
    ("café au lait", 24, 3998854460),
    ("cafe\u0301 au lait", 24, 3998854460),
    ("rock'n'roll", 22, 255044428),
    ("snake_case", 23, 2765110789),
    ("ＤＯＧ", 7, 3388098752),
    ("강아지", 29, 3998799111),
    ("빨간 하트", 40, 203428943),
    ("비행기를 타고 온 3마리", 92, 54117647),
    ("웃는 얼굴 :)", 46, 1992846878),
    ("강아지", 29, 3998799111),
    ("", 0, 0),
    (" ", 0, 0),
    ("50 € · No. 1", 10, 2352002294),
    ("naïve ﬁsh", 23, 3117180601),
    ("1️⃣ number", 18, 3507917883),
    ("🐶 dog", 7, 3388098752),
    ("狗", 2, 2551031445),
    ("대한민국 국기", 64, 3725528811),
    ("Straße", 16, 362801559),
]


@pytest.mark.parametrize(("text", "count", "digest"), PINNED)
def test_the_ngrams_of_ordinary_text_never_change(text, count, digest):
    parts = ngrams(text)
    assert (len(parts), zlib.crc32("\n".join(parts).encode())) == (count, digest)


def test_the_rows_of_a_word_never_change():
    assert ngram_rows("dog", 16_384) == [zlib.crc32(part.encode()) % 16_384 for part in ngrams("dog")]
    assert ngrams("dog") == ["=dog", "<do", "dog", "og>", "<dog", "dog>", "<dog>"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("कि की कु", ["कि", "की", "कु"]),
        ("กินข้าว", ["กินข้าว"]),
        ("Tiếng Việt", ["tiếng", "việt"]),
        ("שָׁלוֹם", [unicodedata.normalize("NFKC", "שָׁלוֹם")]),
        ("dog\u200bhouse", ["doghouse"]),
        ("dog\u00adhouse", ["doghouse"]),
        ("\ufeffdog \u2060house", ["dog", "house"]),
        ("می‌خواهم", ["میخواهم"]),
        ("İstanbul", ["istanbul"]),
        ("❤️ red ♥ heart", ["red", "heart"]),
        ("1️⃣st", ["1", "st"]),
        ("강아\u200b지", ["강아지"]),
        ("\u0301\u0e31", []),
    ],
)
def test_marks_belong_to_words_and_invisible_characters_do_not_split_them(text, words):
    assert words_of(text) == words
    assert words_of(unicodedata.normalize("NFD", text)) == words


def test_vowel_signs_make_a_difference():
    assert set(ngrams("कि")) != set(ngrams("कु"))
