"""Names of the splits that a collection's author may have made, and how they are written elsewhere."""

from __future__ import annotations

import workbench as wb

#: The splits an item may belong to. ``restval`` is Karpathy's name for COCO validation pictures that most
#: work trains on; ``query`` and ``gallery`` are the two sides of a hashing protocol such as DCMH's.
SPLITS = ("train", "restval", "val", "test", "query", "gallery")


#: Share of the training split that is validated on where a collection has no validation split.
VAL_SHARE = 0.08


_ALIASES = {
    "training": "train",
    "trn": "train",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "testing": "test",
    "queries": "query",
    "database": "gallery",
    "db": "gallery",
    "retrieval": "gallery",
    "rest_val": "restval",
}


def split_name(text: str) -> str:
    """Return the name of a split as :data:`SPLITS` has it; empty for an empty text.

    Raises
    ------
    BadInput
        No split has that name; the message lists the known ones.
    """
    name = text.strip().casefold().replace("-", "_")
    name = _ALIASES.get(name, name)
    if name and name not in SPLITS:
        raise wb.BadInput(f"unknown split {text[:60]!r}. Known: {', '.join(SPLITS)}")
    return name


def joined_split(one: str, other: str) -> str:
    """Return the split of a picture that is listed in two; an empty one agrees with any.

    A picture of the gallery may be a training picture too, as in DCMH's protocol: it is in ``train``, which
    belongs to the gallery.

    Raises
    ------
    ValueError
        The two exclude each other.
    """
    both = {one, other} - {""}
    if both == {"train", "gallery"}:
        return "train"
    if len(both) > 1:
        raise ValueError(f"{one!r} and {other!r}")
    return next(iter(both), "")
