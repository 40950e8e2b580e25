"""The word an emoji shares with its siblings, derived from its English name.

Siblings are variants of one drawing: man running and woman running, one o'clock and two-thirty, red heart
and blue heart. A model trained on one of them has practically seen the others, so concepts are held out by
base word. Things that are merely related (cat and lion, smiling and crying face) are not siblings.

The rules, in order:

1. A country or region flag is its own base word; other flags follow the rules below.
2. Families that share a drawing but no word have a fixed base word (:data:`FAMILIES`).
3. A text in parentheses is the base word; otherwise, everything after a colon is dropped ("person: red
   hair").
4. Words for person, colour, size, number, direction, side or state are dropped (:data:`EXCHANGED`), and
   plurals become singulars.
5. Everything after "with", "without" or "behind" is dropped, unless nothing would remain.
6. The remaining words are the base word; if none remain, the whole name is.
"""

from __future__ import annotations

import re

#: Names that match are siblings although they share no word.
FAMILIES: tuple[tuple[str, str], ...] = (
    (r"o’clock$|^\w+-thirty$", "clock face"),
    (r"\b(moon|moon face)$", "moon"),
    (r"^(man|woman|boy|girl|child|person|old(er)? (man|woman|person)|(man|woman|person): .*)$", "person"),
    (r"^(prince|princess|person with crown)$", "prince"),
    (r"^(santa|mrs\.|mx) claus$", "claus"),
    (r"^mer(man|maid|person)$", "merperson"),
    (r"^(breast-feeding|(man|woman|person) feeding baby)$", "feeding baby"),
    (r"^(un)?locked\b", "locked"),
    (r"^(sun behind .*|cloud|cloud with .*)$", "cloud"),
    (r"^(dim|bright) button$", "brightness button"),
    (r"^(female|male|transgender) (sign|symbol)$", "gender sign"),
    (r"^(men’s room|women’s room|restroom)$", "restroom"),
    (r"^(heart suit|light blue heart|(two|revolving) hearts)$", "heart"),
    (r"^(waving hand|raised hand|hand with fingers splayed|(right|left)wards( pushing)? hand)$", "open hand"),
    (r"^family\b", "family"),
    (r"^(eye|eyes)$", "eye"),
    (r"^two-hump camel$", "camel"),
    (r"^(soft ice cream|ice cream)$", "ice cream"),
    (r"^globe\b", "globe"),
    (r"^input latin \w+$", "input latin"),
    (r"^bullet train$|^high-speed train$", "high-speed train"),
    (r"^sun(rise|set)\b", "sunrise"),
    (r"^(fast )?(up|down)(wards)? button$", "upwards button"),
    (r"^((fast[- ])?(forward|reverse)|(next|last) track|play|play or pause|pause) button$", "play button"),
    (r"^(clinking )?beer mugs?$", "beer mug"),
    (r"^(muted speaker|speaker \w+ volume)$", "speaker"),
    (r"^check (mark|box)\b", "check mark"),
    (r"^cross mark\b", "cross mark"),
    (r"^(tear-off )?calendar$", "calendar"),
    (r"^(left speech bubble|speech balloon)$", "speech balloon"),
    (r"^(glowing )?star$", "star"),
    (r"^(closed )?umbrella\b", "umbrella"),
    (r"^((snow-capped )?mountain|mount fuji)$", "mountain"),
)


#: Words in which siblings differ; they are dropped.
EXCHANGED = frozenset(
    word
    for words in (
        # who
        "man woman men women person people boy girl male female old older",
        # colour
        "red orange yellow green blue purple brown black white grey pink hollow",
        # size and number
        "large small medium medium-small heavy big double two three single round linked 1st 2nd 3rd",
        # direction and side
        "up down left right up-right down-right down-left up-left up-down left-right leftwards rightwards",
        "upwards downwards left-facing right-facing front-facing oncoming pointing pointed",
        "curving tilted facing horizontally vertically clockwise counterclockwise horizontal vertical",
        "incoming inbox outbox",
        # state and amount
        "open opened closed done not low high muted increasing decreasing departure arrival slightly",
        "motorized manual potable non-potable lowered raised",
        # kind of money
        "yen dollar euro pound",
        # part for whole, and words without a picture
        "face and or the",
    )
    for word in words.split()
)


_CUT = re.compile(r"\b(with|without|behind)\b")


_EVIL = re.compile(r"^\w+-no-evil ")


def base_word(name: str, subgroup: str) -> str:
    """Return the base word of an emoji.

    Parameters
    ----------
    name : str
        English name, such as ``"woman running"``.
    subgroup : str
        Subgroup, such as ``"person-activity"``; it identifies country and region flags.

    Returns
    -------
    str
        Lower case; equal for siblings.
    """
    name = name.casefold().strip()
    if subgroup in ("country-flag", "subdivision-flag"):
        return name
    for pattern, family in FAMILIES:
        if re.search(pattern, name):
            return family
    name = _EVIL.sub("", name)
    bracket = re.search(r"\((.+)\)", name)
    name = bracket.group(1) if bracket else name.split(":")[0]
    words = [_singular(word) for word in name.split() if word not in EXCHANGED]
    left = " ".join(words).removeprefix("in ")
    before = _CUT.split(left)[0].strip()
    left = before or _CUT.sub("", left).strip()
    return left or name


def _singular(word: str) -> str:
    """Return a noun's singular; good enough for names, which are only compared with each other."""
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is", "os", "’s")):
        return word[:-1]
    return word
