"""Words that name nothing a picture could show."""

from __future__ import annotations

from adapters.vlm_quantization.towers.ngrams import words_of

#: Articles, prepositions, conjunctions and auxiliaries of English; particles, demonstratives and conjunctions
#: of Korean. It is a list because nothing that was measured on the demo's model and index tells them from
#: other words: neither the length of a text's vector, nor how many captions hold a word, nor how alike those
#: are ("the" is like "man", "of" like "flag"). Words that also name a thing are not in it, such as "up",
#: "can", "I" (a letter), 이 (tooth) or 은 (silver).
_ENGLISH = (
    "a an the this that these those of to at by for from with in on into and or but if than as it its "
    "is are am was were be been has have had"
)


_KOREAN = "그 저 것 이것 그것 저것 을 를 는 의 에 에서 에게 와 과 및 또는 그리고 그러나 하지만 있는 하는"


FUNCTION_WORDS = frozenset(f"{_ENGLISH} {_KOREAN}".split())


def says_nothing(text: str) -> bool:
    """Return whether a text has words and all of them are in :data:`FUNCTION_WORDS`."""
    words = words_of(text)
    return bool(words) and FUNCTION_WORDS.issuperset(words)
