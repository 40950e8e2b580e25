"""Character n-grams of a text, with Korean as jamo, hashed into rows of an embedding."""

from __future__ import annotations

import re
import unicodedata
import zlib

#: Longest n-gram of characters and of jamo; longer words are covered by their parts and the whole word.
LONGEST_NGRAM = 5


_WORD = re.compile(r"[^\W_]+", re.UNICODE)


_HANGUL = re.compile("[가-힣]")


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
    for word in _WORD.findall(unicodedata.normalize("NFKC", text).lower()):
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
