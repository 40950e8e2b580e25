"""The ranking tasks of an evaluation: a checkpoint on the held-out data, with confidence intervals.

:mod:`adapters.vlm_quantization.evaluate.report.tables` writes the report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

import workbench as wb
from adapters.vlm_quantization.data.splits import Splits
from adapters.vlm_quantization.evaluate import baselines
from adapters.vlm_quantization.evaluate.tested import Part, held_out_parts
from adapters.vlm_quantization.metrics import uncertainty
from adapters.vlm_quantization.metrics.records import MetricRecord
from adapters.vlm_quantization.metrics.relevance import Graded, Relevance, SameItem, SharedLabel

if TYPE_CHECKING:
    from adapters.vlm_quantization.data.collection import CaptionedImages
    from adapters.vlm_quantization.evaluate.subject import Subject
    from adapters.vlm_quantization.options import FamilyEvalOptions


#: Kinds of queries and gallery by direction, and the display name.
DIRECTIONS = {
    "t2i": ("text", "image", "text → image"),
    "i2t": ("image", "text", "image → text"),
    "i2i": ("image", "image", "image → image"),
    "t2t": ("text", "text", "text → text"),
}


#: Names of the rankings of the learned code itself.
FLOAT, LEARNED, RESCORED, FLOAT_QUERY = "float cosine", "nested code", "rescored", "float query"


@dataclass(frozen=True)
class TaskSide:
    """Pictures or texts of a part, encoded.

    Attributes
    ----------
    kind : {"image", "text"}
    language : str
        Language of texts; empty for pictures and for texts in several languages.
    ids : list of str
        One per row, unique: a picture's item id, or the concept of a text, with the number of the text from
        the second on (and with its language in a joined gallery).
    concepts : list of str
        Concept of each row.
    labels : list of tuple of str
        Labels of each row.
    shown : list of str
        Displayed text of each row: a text, or a picture's caption.
    rows : ndarray, int64, shape (n,)
        Items of the collection; for a text, the first item that has it.
    codes, features, margins
        Packed codes, unit float features, and the distances of each bit from its threshold (None: unknown).
    """

    kind: str
    ids: list[str]
    concepts: list[str]
    labels: list[tuple[str, ...]]
    shown: list[str]
    rows: NDArray[np.int64] = field(repr=False)
    codes: NDArray[np.uint8] = field(repr=False)
    features: NDArray[np.float32] = field(repr=False)
    margins: NDArray[np.float32] | None = field(repr=False)
    language: str = ""


@dataclass
class Task:
    """One ranking task: a part, a direction and a language, with everything measured on it.

    Attributes
    ----------
    part, direction, language : str
        Keys: ``"drawings"``, ``"t2i"``, ``"en"``.
    split, arrow : str
        Display names of part and direction.
    fingerprint : str
        Fingerprint of the split.
    queries, gallery : TaskSide
    relevance : Relevance
    itself : ndarray or None
        Row of each query in the gallery, if queries are from the gallery.
    fitted : sequence of Baseline
        The baselines it was measured with.
    records : dict of str to list of MetricRecord
        By method: the float features, the learned code, combinations of both, and the baselines.
    """

    part: str
    direction: str
    language: str
    split: str
    arrow: str
    fingerprint: str
    queries: TaskSide
    gallery: TaskSide
    relevance: Relevance
    itself: NDArray[np.int64] | None = None
    fitted: Sequence[baselines.Baseline] = ()
    records: dict[str, list[MetricRecord]] = field(default_factory=dict)
    draws: dict[tuple[str, int | None, str], NDArray[np.float64]] = field(default_factory=dict, repr=False)

    @property
    def prefix(self) -> str:
        """Prefix of metric names: ``drawings/en/t2i``."""
        return f"{self.part}/{self.language}/{self.direction}"

    @property
    def words(self) -> str:
        """Part, direction and language, for display."""
        return f"{self.split}, {self.arrow}, {self.language}"

    @property
    def gallery_size(self) -> int:
        """Number of items a query is ranked against, excluding itself."""
        return len(self.gallery.ids) - (self.itself is not None)

    @property
    def query_ids(self) -> list[str]:
        """Return ids that identify a query across evaluations: they include the split's fingerprint."""
        return [f"{self.fingerprint[:8]}:{self.language}:{one}" for one in self.queries.ids]

    def record(self, method: str, name: str, bits: int | None) -> MetricRecord | None:
        """Return one record, or None if it was not measured."""
        records = self.records.get(method, ())
        return next((one for one in records if one.name == name and one.bits == bits), None)

    def interval(self, method: str, name: str, bits: int | None) -> tuple[float, float] | None:
        """Return the 95 % bootstrap interval of a mean over queries, or None if not available."""
        draws = self.draws.get((method, bits, name))
        if draws is None:
            return None
        low, high = uncertainty.interval(draws)
        return None if np.isnan(low) else (float(low), float(high))

    def resample(self, metrics: Iterable[tuple[str, int | None, str]], resamples: int) -> None:
        """Bootstrap the means over queries of (method, bits, name); all metrics use the same draws."""
        keys, rows = [], []
        for method, bits, name in metrics:
            record = self.record(method, name, bits)
            if record is not None and name != "MedR":
                keys.append((method, bits, name))
                rows.append(record.per_query)
        if rows:
            drawn = uncertainty.bootstrap(np.stack(rows), groups=self.queries.concepts, resamples=resamples)
            self.draws |= dict(zip(keys, drawn, strict=True))


def encode_part(
    collection: CaptionedImages,
    rows: NDArray[np.int64],
    subject: Subject,
    *,
    each_item: bool = False,
) -> tuple[TaskSide, dict[str, TaskSide]]:
    """Encode the pictures of a part and, by language, every caption of each of their concepts.

    With ``each_item``, it is every caption of each picture, as often as it is written.
    """
    items = [collection.items[row] for row in rows.tolist()]
    encoded = subject.pictures(rows)
    pictures = TaskSide(
        kind="image",
        ids=[f"img:{item.id}" for item in items],
        concepts=[item.concept for item in items],
        labels=[item.labels for item in items],
        shown=[item.caption() for item in items],
        rows=rows,
        codes=encoded.codes,
        features=encoded.features,
        margins=subject.margins(encoded, "image"),
    )
    texts = {}
    for language in collection.languages:
        captions = collection.captions(rows.tolist(), language, each_item=each_item)
        if captions:
            shown = [caption.text for caption in captions]
            concepts = [caption.concept for caption in captions]
            encoded = subject.texts(shown)
            texts[language] = TaskSide(
                kind="text",
                ids=numbered_ids(concepts),
                concepts=concepts,
                labels=[collection.items[caption.row].labels for caption in captions],
                shown=shown,
                rows=np.array([caption.row for caption in captions], np.int64),
                codes=encoded.codes,
                features=encoded.features,
                margins=subject.margins(encoded, "text"),
                language=language,
            )
    return pictures, texts


def numbered_ids(concepts: Sequence[str]) -> list[str]:
    """Return a unique id for each caption: its concept, and from the second caption on its number too."""
    taken, seen, out = set(concepts), Counter[str](), []
    for concept in concepts:
        seen[concept] += 1
        one = concept
        if seen[concept] > 1:
            one = f"{concept} #{seen[concept]}"
            while one in taken:  # another concept has that name
                one += "#"
            taken.add(one)
        out.append(one)
    return out


def tasks(
    collection: CaptionedImages,
    parts: Splits | Sequence[Part],
    subject: Subject,
    options: FamilyEvalOptions,
) -> Iterator[Task]:
    """Yield every ranking task that has queries, part by part.

    Parameters
    ----------
    collection : CaptionedImages
    parts : sequence of Part, or Splits
        Of splits, the test parts.
    subject, options
        As for :func:`adapters.vlm_quantization.evaluate.measuring.evaluate`.

    Raises
    ------
    workbench.BadInput
        No query has a relevant item because of how queries and gallery are split.
    """
    for part in held_out_parts(parts) if isinstance(parts, Splits) else parts:
        if part.is_apart and options.relevance == "item":
            _refuse_strangers(collection, part)
        asked = encode_part(collection, part.queries, subject, each_item=part.each_item)
        found = asked
        if part.is_apart:
            found = encode_part(collection, part.gallery, subject, each_item=part.each_item)
        pictures, texts = asked
        for direction in options.directions:
            for language, names in texts.items():
                if direction == "i2i" and language != next(iter(texts)):
                    continue  # pictures have no language
                if part.is_apart:
                    sides = _sides_apart(direction, pictures, names, *found)
                    if sides is None:
                        continue
                    query, gallery, itself = *sides, None
                else:
                    query, gallery, itself = _sides(direction, pictures, names, texts)
                yield Task(
                    part=part.name,
                    direction=direction,
                    language=language if direction != "i2i" else "any",
                    split=part.words,
                    arrow=DIRECTIONS[direction][2],
                    fingerprint=part.fingerprint,
                    queries=query,
                    gallery=gallery,
                    relevance=_relevance(options.relevance, query, gallery),
                    itself=itself,
                )


def _sides(
    direction: str, pictures: TaskSide, names: TaskSide, texts: Mapping[str, TaskSide]
) -> tuple[TaskSide, TaskSide, NDArray[np.int64] | None]:
    """Return queries, gallery, and the row of each query in the gallery, if queries are from the gallery."""
    if direction == "t2i":
        return names, pictures, None
    if direction == "i2t":
        return pictures, names, None
    if direction == "i2i":
        return pictures, pictures, np.arange(len(pictures.ids))
    together = _joined(texts)
    start = 0
    for other in texts.values():
        if other is names:
            break
        start += len(other.ids)
    return names, together, np.arange(start, start + len(names.ids))


def _sides_apart(
    direction: str, pictures: TaskSide, names: TaskSide, found: TaskSide, found_texts: Mapping[str, TaskSide]
) -> tuple[TaskSide, TaskSide] | None:
    """Return queries and a gallery of other pictures; None if it has no text in the queries' language."""
    query = names if direction[0] == "t" else pictures
    if direction[-1] == "i":
        return query, found
    if direction == "t2t":
        return (query, _joined(found_texts)) if found_texts else None
    same = next((side for side in found_texts.values() if side.language == names.language), None)
    return None if same is None else (query, same)


def _refuse_strangers(collection: CaptionedImages, part: Part) -> None:
    """Refuse relevance by item where no query has an item of its concept in the gallery."""
    known = {collection.items[row].concept for row in part.gallery.tolist()}
    if not any(collection.items[row].concept in known for row in part.queries.tolist()):
        raise wb.BadInput(
            f"queries and gallery of {collection.name!r} are different pictures with different captions: "
            "by relevance=item, no query has a relevant item",
            hint="Evaluate with relevance=labels, as hashing protocols do.",
        )


def _joined(texts: Mapping[str, TaskSide]) -> TaskSide:
    """Return the names in all languages as one gallery."""
    sides = list(texts.values())
    known = [side.margins for side in sides if side.margins is not None]
    return TaskSide(
        kind="text",
        ids=[f"{language}:{one}" for language, side in texts.items() for one in side.ids],
        concepts=[one for side in sides for one in side.concepts],
        labels=[one for side in sides for one in side.labels],
        shown=[one for side in sides for one in side.shown],
        rows=np.concatenate([side.rows for side in sides]),
        codes=np.concatenate([side.codes for side in sides]),
        features=np.concatenate([side.features for side in sides]),
        margins=None if len(known) < len(sides) else np.concatenate(known),
    )


def _relevance(kind: str, query: TaskSide, gallery: TaskSide) -> Relevance:
    if kind == "item":
        return SameItem(query.concepts, gallery.concepts)
    names = sorted({label for side in (query, gallery) for labels in side.labels for label in labels})
    if not names:
        raise wb.BadInput(
            f"relevance={kind} needs labels, but no item of this collection has any",
            hint="Add labels to the items, or evaluate with relevance=item.",
        )
    place = {name: column for column, name in enumerate(names)}
    tables = []
    for side in (query, gallery):
        table = np.zeros((len(side.labels), len(names)), bool)
        for row, labels in enumerate(side.labels):
            table[row, [place[label] for label in labels]] = True
        tables.append(table)
    return SharedLabel(*tables) if kind == "labels" else Graded(*tables)
