"""Character n-grams of a text, with Korean as jamo, hashed into rows of an embedding."""

from __future__ import annotations

import re
import unicodedata
import zlib

#: Longest n-gram of characters and of jamo; longer words are covered by their parts and the whole word.
LONGEST_NGRAM = 5


_WORD = re.compile(r"[^\W_]+", re.UNICODE)


#: A character that a text of ASCII letters, or of Korean, has at most as punctuation.
_ODD = re.compile(r"[^\x00-\x7f\w]")


_HANGUL = re.compile("[가-힣]")


def words_of(text: str) -> list[str]:
    """Return the words of a text in one form: lower case, full-width characters as ordinary ones.

    A word consists of letters, digits and the marks on them, such as the vowel signs of Hindi and Thai.
    Invisible characters, such as a zero-width space or a soft hyphen, do not end it.

    Returns
    -------
    list of str
        Empty for a text without a letter or digit.
    """
    text = unicodedata.normalize("NFKC", text).lower()
    return _marked_words(text) if _ODD.search(text) else _WORD.findall(text)


def _marked_words(text: str) -> list[str]:
    words, word = [], ""
    for one in text.replace("i\u0307", "i"):  # a Turkish capital in lower case
        kind = unicodedata.category(one)
        if one.isalnum() or (word and kind in ("Mn", "Mc") and not "\ufe00" <= one <= "\ufe0f"):
            word += one
        elif kind != "Cf" and not "\ufe00" <= one <= "\ufe0f":  # format characters and variation selectors
            words.append(word)
            word = ""
    words.append(word)
    return [word for word in words if word]


def ngrams(text: str) -> list[str]:
    """Return the features of a text: whole words, n-grams of characters, and for Korean also of jamo.

    Words are lower-cased and marked at both ends, so that "rain" and the end of "brain" differ. A Korean
    syllable counts as a character (n-grams of 1 to 3) and is also split into its jamo by Unicode's canonical
    decomposition (n-grams of 3 to 5), so that an inflected form or a spelling variant still matches its stem.

    Parameters
    ----------
    text : str
        Any language; case and Unicode form do not matter.

    Returns
    -------
    list of str
        With repeats; empty for a text without a letter or digit.
    """
    parts: list[str] = []
    for word in words_of(text):
        parts.append(f"={word}")
        if _HANGUL.search(word):
            parts += _windows(f"<{word}>", 1, 3)
            parts += [f"j{part}" for part in _windows(f"<{unicodedata.normalize('NFD', word)}>", 3, 5)]
        else:
            parts += _windows(f"<{word}>", 3, LONGEST_NGRAM)
    return parts


def _windows(marked: str, shortest: int, longest: int) -> list[str]:
    return [
        marked[start : start + width]
        for width in range(shortest, longest + 1)
        for start in range(len(marked) - width + 1)
        if marked[start : start + width] not in "<>"
    ]


def ngram_rows(text: str, buckets: int) -> list[int]:
    """Return the embedding rows of a text's n-grams: CRC-32 into ``buckets`` rows, the same everywhere."""
    return [zlib.crc32(part.encode()) % buckets for part in ngrams(text)]
