"""How stable codes are: how many bits flip in a changed picture or text, and whether its answer stays right.

A code is stable if what nobody would call another picture, such as a copy saved as JPEG, keeps its code. The
changes are those of :mod:`adapters.vlm_quantization.data.augmentation`; each picture is changed by a random
generator of its own, so every model is measured on the same changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.data.augmentation import CHANGES, WORD_SHARE, generator_of, with_words_dropped
from adapters.vlm_quantization.data.pictures import opened_ahead
from workbench import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from PIL.Image import Image

    from adapters.vlm_quantization.codes import Encoded
    from adapters.vlm_quantization.data.collection import CaptionedImages, OnProgress
    from adapters.vlm_quantization.evaluate.subject import Subject
    from adapters.vlm_quantization.evaluate.tasks import Task, TaskSide
    from adapters.vlm_quantization.options import FamilyEvalOptions

#: Pictures that are changed where an encoder is quick and the options name no number.
QUICK_SAMPLE = 60


#: Pictures decoded, changed and encoded at a time; bounds the pictures in memory.
BATCH = 16


#: The right answer counts as kept if it stays within so many hits.
TOP = 10


#: Name of the change of texts in metrics.
TEXTS = "token-dropout"


#: Every change by its name in metrics.
NAMES = (*CHANGES, TEXTS)


@dataclass(frozen=True)
class Change:
    """What one change does to codes.

    Attributes
    ----------
    name, words : str
        Name in metrics, and what is done, for display.
    kind : {"view", "augmentation", "retouching", "texts"}
    n : int
        Pictures or texts that were changed.
    cosine : float
        Mean cosine of the float features before and after.
    flips : dict of int to float
        By code length, the mean share of bits that differ, 0 to 1.
    kept : dict of int to float
        By code length, the share of queries with a right answer in the top 10 that keep one there; NaN if
        none had one, or it was not asked.
    """

    name: str
    words: str
    kind: str
    n: int
    cosine: float
    flips: dict[int, float]
    kept: dict[int, float]


@dataclass(frozen=True)
class Stability:
    """What was measured, or why nothing was.

    Attributes
    ----------
    changes : list of Change
    notes : list of str
        Sentences for the reader.
    example : dict of str to Image
        One picture under each change, by name; "original" is the picture itself.
    """

    changes: list[Change] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    example: dict[str, Image] = field(default_factory=dict, repr=False)

    @property
    def metrics(self) -> dict[str, float]:
        """Return ``stability/jpeg/flips@64`` and ``stability/jpeg/kept@64``, without what is NaN."""
        out = {}
        for change in self.changes:
            for what, by_length in (("flips", change.flips), ("kept", change.kept)):
                for length, value in by_length.items():
                    if not math.isnan(value):
                        out[f"stability/{change.name}/{what}@{length}"] = value
        return out


class _Queries(NamedTuple):
    """Queries before a change: rows of a side, and the task whose queries that side is, if it is."""

    side: TaskSide
    rows: NDArray[np.int64]
    task: Task | None


def measure_stability(
    collection: CaptionedImages,
    tasks: Sequence[Task],
    subject: Subject,
    options: FamilyEvalOptions,
    progress: OnProgress | None = None,
) -> Stability:
    """Change a sample of the test's pictures and texts, encode them again, and compare the codes.

    Parameters
    ----------
    collection : CaptionedImages
        What is measured on.
    tasks : sequence of Task
        The measured tasks. Pictures and texts are those of the first part; a picture asks for its text by the
        first ``i2t`` task, and a text for its picture by the ``t2i`` task of its language.
    subject : Subject
    options : FamilyEvalOptions
        ``stability``: the number of pictures and of texts; 0: nothing is measured; None: :data:`QUICK_SAMPLE`
        if the subject is quick, else nothing.
    progress : callable, optional
        ``progress(done, total, message)``.
    """
    count = options.stability
    if count is None:
        count = QUICK_SAMPLE if subject.quick else 0
        if not count:
            why = "encoding pictures with this encoder takes long. Ask for it: stability=100."
            return Stability(notes=[f"Not measured: {why}"])
    if not count:
        return Stability(notes=["Not measured: stability=0."])
    part = [task for task in tasks if task.part == tasks[0].part]
    texts = [task for task in part if task.direction == "t2i"]
    pictures = _picture_queries(part, count)
    measured = Stability()
    if pictures is not None:
        _measure_pictures(collection, pictures, subject, progress, measured)
    if changed := _measure_texts(texts, count, subject):
        measured.changes.append(changed)
    else:
        measured.notes.append("Token dropout not measured: no caption has several words.")
    return measured


def _picture_queries(tasks: Sequence[Task], count: int) -> _Queries | None:
    """Return a sample of the pictures, by a task that asks with pictures if there is one."""
    asking = next((task for task in tasks if task.direction == "i2t"), None)
    if asking is not None:
        return _Queries(asking.queries, _sampled(len(asking.queries.ids), count, asking), asking)
    for task in tasks:
        for side in (task.queries, task.gallery):
            if side.kind == "image":
                return _Queries(side, _sampled(len(side.ids), count, task), None)
    return None


def _sampled(n: int, count: int, task: Task) -> NDArray[np.int64]:
    order = generator_of("stability", task.fingerprint).permutation(n)
    return np.sort(order[:count])


def _measure_pictures(
    collection: CaptionedImages,
    queries: _Queries,
    subject: Subject,
    progress: OnProgress | None,
    out: Stability,
) -> None:
    """Measure every change of pictures, and add what came of it to ``out``."""
    read: list[int] = []
    found: dict[str, list[Encoded]] = {name: [] for name in CHANGES}
    gone = ""
    n_gone = 0
    for rows, pictures, error in _opened(collection, queries):
        if error:
            gone, n_gone = error, n_gone + 1
            continue
        if not read:
            out.example["original"] = pictures[0]
        for name, change in CHANGES.items():
            changed = [
                change.apply(picture, generator_of("stability", name, queries.side.ids[row]))
                for row, picture in zip(rows, pictures, strict=True)
            ]
            if not read:
                out.example[name] = changed[0]
            found[name].append(subject.images(changed))
        read += rows
        if progress:
            progress(len(read) + n_gone, len(queries.rows), "changing pictures")
    if n_gone:
        of = f"{n_gone:,} of {len(queries.rows):,} pictures" if read else "pictures"
        out.notes.append(f"{'' if read else 'Not measured: '}{of} cannot be read any more ({gone}).")
    if not read:
        return
    rows_read = np.array(read, np.int64)
    before = _chances(queries, queries.side.codes[rows_read], rows_read)
    for name, change in CHANGES.items():
        codes = np.concatenate([one.codes for one in found[name]])
        features = np.concatenate([one.features for one in found[name]])
        out.changes.append(
            Change(
                name=name,
                words=change.words,
                kind=change.kind,
                n=len(read),
                cosine=_cosine(features, queries.side.features[rows_read]),
                flips=flipped(queries.side.codes[rows_read], codes),
                kept=_kept(before, _chances(queries, codes, rows_read)),
            )
        )


def _opened(collection: CaptionedImages, queries: _Queries) -> Iterator[tuple[list[int], list[Image], str]]:
    """Yield rows and pictures in batches; a picture that cannot be read comes alone, with the reason."""
    rows: list[int] = []
    pictures: list[Image] = []
    items = queries.side.rows[queries.rows].tolist()
    for row, picture in zip(queries.rows.tolist(), opened_ahead(collection.open, items), strict=True):
        if isinstance(picture, (BadInput, OSError)):
            yield [row], [], str(getattr(picture, "message", picture))
            continue
        if isinstance(picture, Exception):
            raise picture
        rows.append(row)
        pictures.append(picture.convert("RGB"))
        if len(rows) == BATCH:
            yield rows, pictures, ""
            rows, pictures = [], []
    if rows:
        yield rows, pictures, ""


def _measure_texts(tasks: Sequence[Task], count: int, subject: Subject) -> Change | None:
    """Measure token dropout on texts of several words, over all languages; None if there are none."""
    parts: list[Any] = []
    for place, task in enumerate(tasks):
        shown = task.queries.shown
        longer = np.array([row for row, text in enumerate(shown) if len(text.split()) > 1], np.int64)
        share = count // len(tasks) + (place < count % len(tasks))
        rows = longer[_sampled(len(longer), share, task)]
        if not len(rows):
            continue
        changed = [_shortened(shown[row]) for row in rows.tolist()]
        encoded = subject.texts(changed)
        queries = _Queries(task.queries, rows, task)
        parts.append(
            (
                task.queries.codes[rows],
                encoded.codes,
                task.queries.features[rows],
                encoded.features,
                *(_chances(queries, codes, rows) for codes in (task.queries.codes[rows], encoded.codes)),
            )
        )
    if not parts:
        return None
    old, new, old_features, new_features, before, after = (
        np.concatenate(each) for each in zip(*parts, strict=True)
    )
    return Change(
        name=TEXTS,
        words=f"some {WORD_SHARE * 100:.0f} % of the words dropped",
        kind="texts",
        n=len(old),
        cosine=_cosine(new_features, old_features),
        flips=flipped(old, new),
        kept=_kept(before, after),
    )


def _shortened(text: str) -> str:
    """Return a text without some of its words: at least one is left out, and at least one stays."""
    rng = generator_of("stability", TEXTS, text)
    shorter = text
    while shorter == text:
        shorter = with_words_dropped(text, rng)
    return shorter


def flipped(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> dict[int, float]:
    """Return by code length the mean share of bits in which packed codes, uint8 (n, 16), differ."""
    apart = np.bitwise_count(before ^ after)
    return {length: float(apart[:, : length // 8].sum(axis=1).mean() / length) for length in CODE_LENGTHS}


def _cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float((one.astype(np.float64) * other).sum(axis=1).mean())


def _chances(queries: _Queries, codes: NDArray[np.uint8], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return for each query and length the chance of a right answer in the top 10; NaN if not asked."""
    out = np.full((len(rows), len(CODE_LENGTHS)), np.nan)
    task = queries.task
    if task is None:
        return out
    for place, row in enumerate(rows.tolist()):
        right = task.relevance.block(row, row + 1)[0] > 0
        apart = np.bitwise_count(task.gallery.codes ^ codes[place])
        for column, length in enumerate(CODE_LENGTHS):
            out[place, column] = chance_in_top(apart[:, : length // 8].sum(axis=1), right)
    return out


def chance_in_top(distances: NDArray[Any], right: NDArray[np.bool_], top: int = TOP) -> float:
    """Return how likely a right item is within the first ``top``, over all orders of equal distances.

    Parameters
    ----------
    distances : ndarray, shape (n,)
    right : ndarray, bool, shape (n,)
    top : int

    Returns
    -------
    float
        0 to 1; 0 if no item is right.
    """
    if not right.any():
        return 0.0
    nearest = distances[right].min()
    places = top - int((distances < nearest).sum())
    if places <= 0:
        return 0.0
    tied = int((distances == nearest).sum())
    wrong = tied - int((right & (distances == nearest)).sum())
    return 1 - math.comb(wrong, places) / math.comb(tied, places) if places <= tied else 1.0


def _kept(before: NDArray[np.float64], after: NDArray[np.float64]) -> dict[int, float]:
    out = {}
    for column, length in enumerate(CODE_LENGTHS):
        had = before[:, column].sum()
        both = np.minimum(before[:, column], after[:, column]).sum()
        out[length] = float(both / had) if had > 0 else math.nan
    return out


def possible_names(options: FamilyEvalOptions) -> list[str]:
    """Return the names that :attr:`Stability.metrics` can have with these options."""
    if options.stability == 0:
        return []
    return [
        f"stability/{name}/{what}@{length}"
        for name in NAMES
        for what in ("flips", "kept")
        for length in CODE_LENGTHS
    ]
