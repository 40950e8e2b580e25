"""What a collection holds, before anything long is started with it: ``workbench data check``."""

from __future__ import annotations

import base64
import html
import io
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import workbench as wb
from adapters.vlm_quantization.data.heads import equal_files
from adapters.vlm_quantization.data.near_duplicates import MOST_PAIRS, near_pairs, perceptual_codes
from adapters.vlm_quantization.data.pictures import opened_ahead
from adapters.vlm_quantization.data.source_text import parse_sources
from adapters.vlm_quantization.data.sources import (
    absolute_source,
    list_collection,
    open_collection,
    recognised,
    short_name,
)
from adapters.vlm_quantization.data.splits import make_splits
from adapters.vlm_quantization.towers.needs import TIMED, needs_view

if TYPE_CHECKING:
    from PIL.Image import Image

    from adapters.vlm_quantization.data.collection import CaptionedImages, OnProgress


#: Number of pictures that are shown.
SAMPLES = 12


#: Number of pictures among which near duplicates are looked for, unless the check is thorough.
COMPARED = 200


#: Side of a shown picture in pixels, and most characters of its caption.
_SHOWN_SIDE, _SHOWN_CHARACTERS = 160, 200


#: Number of examples in a warning, of labels, and of broken or equal pictures that are listed.
_EXAMPLES, _LABELS, _LISTED = 3, 20, 10


def check_collection(
    source: str,
    folder: Path,
    *,
    thorough: bool = False,
    cache_dir: Path | None = None,
    progress: OnProgress | None = None,
) -> wb.Result:
    """Say what a collection holds.

    By default the listing is read whole, of every picture the size and first bytes, equal files are found,
    and :data:`COMPARED` pictures are decoded and compared by their look. A thorough check decodes and
    compares all of them.

    Parameters
    ----------
    source : str
        As :func:`~adapters.vlm_quantization.data.sources.open_collection` takes it.
    folder : Path
        Where to write ``samples.html``, ``problems.txt`` and ``duplicates.txt``; made if missing.
    thorough : bool
        Whether to decode every picture.
    cache_dir, progress
        As for ``open_collection``.

    Returns
    -------
    workbench.Result
        Counts as metrics, tables and samples as views, problems as warnings, and in ``made`` the written
        files, and ``"options"`` of jobs that use the collection.

    Raises
    ------
    BadInput
        The source does not exist, has no known form, or nothing in it is usable.
    """
    started = time.perf_counter()
    forms = [f"{known.form}, {known.about}: {one.place}" for one, known in _recognised(source)]
    read = open_collection if thorough else list_collection
    collection = read(source, cache_dir=cache_dir, progress=progress)
    folder.mkdir(parents=True, exist_ok=True)
    warnings = list(collection.notes)
    made: dict[str, Any] = {}
    if collection.problems:
        path = folder / "problems.txt"
        path.write_text("".join(f"{problem}\n" for problem in collection.problems), encoding="utf-8")
        made["problems"] = str(path)
        warnings.insert(0, f"{collection.problem_summary}. All of them: {path}")

    rows = _spread(len(collection), len(collection) if thorough else COMPARED)
    shown = {rows[place] for place in _spread(len(rows), SAMPLES)}
    looking = time.perf_counter()
    codes, cards, unreadable = _looked_at(collection, rows, shown, progress)
    decoding = (time.perf_counter() - looking) / max(len(rows), 1)
    made["samples"] = str(_written(folder / "samples.html", _page(collection, cards)))
    if unreadable:
        path = folder / "unreadable.txt"
        path.write_text("".join(f"{line}\n" for line in unreadable), encoding="utf-8")
        made["unreadable"] = str(path)
        warnings.append(
            f"{_number(len(unreadable), 'picture')} of {len(rows):,} decoded cannot be read: "
            f"{'; '.join(unreadable[:_EXAMPLES])}. All of them: {path}"
        )
    equal = _equal(collection, thorough=thorough)
    kept = [row for row, code in zip(rows, codes, strict=True) if code is not None]
    near = _near(collection, kept, [code for code in codes if code is not None], equal)
    lines = [*_lines("equal", collection, equal), *_lines("look alike", collection, near)]
    if lines:
        made["duplicates"] = str(_written(folder / "duplicates.txt", "".join(lines)))
    warnings += _across(_EQUAL, collection, equal) + _across("near duplicates", collection, near)

    what = f"all {len(rows):,}" if thorough else f"{len(rows):,} of {len(collection):,}"
    counts: dict[str, float] = {
        "pictures": len(collection),
        "captions": sum(len(texts) for item in collection.items for texts in item.captions.values()),
        "left out": len(collection.problems),
        "equal": sum(len(group) - 1 for group in equal),
        "near duplicates": len(near),
        "decoded": len(rows),
        "seconds": round(time.perf_counter() - started, 2),
    }
    notes = [
        *(f"Recognised as {form}." for form in forms),
        f"Decoded and compared by their look: {what} pictures."
        + (
            ""
            if len(rows) == len(collection)
            else " Of the others, size, first bytes and equal files were checked."
        ),
    ]
    training = list(_training(collection, warnings))
    views = [
        _table("What it holds", ("What", "Count"), _rows(counts), notes),
        *training,
        *_by_part(collection),
        *needs_view(
            len(collection), int(counts["captions"]), [_opened(data) for _, data in cards[:TIMED]], decoding
        ),
        *_samples(collection, cards),
        *_broken(collection, unreadable, made),
        *_alike(collection, equal, near, made),
    ]
    made["options"] = _next_jobs(source, trains=bool(training))
    summary = f"{len(collection):,} pictures, {counts['captions']:,} captions"
    if collection.problems:
        summary += f", {_number(len(collection.problems), 'line')} left out"
    return wb.Result(summary=summary, metrics=counts, views=views, made=made, warnings=warnings)


def _next_jobs(source: str, *, trains: bool) -> dict[str, dict[str, str]]:
    """Return the options of jobs that use a collection."""
    place, name = absolute_source(source), short_name(source)
    jobs = {"index_build": {"collection": place, "name": name}}
    return {"train": {"collection": place, "experiment": name}, **jobs} if trains else jobs


def _recognised(source: str) -> Iterator[tuple[Any, Any]]:
    for one in parse_sources(source):
        yield one, recognised(one)


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _spread(count: int, wanted: int) -> list[int]:
    """Return at most so many rows, evenly spread."""
    wanted = min(count, wanted)
    return [place * count // wanted for place in range(wanted)]


def _written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


# --- pictures -----------------------------------------------------------------------------------------------


def _looked_at(
    collection: CaptionedImages, rows: Sequence[int], shown: set[int], progress: OnProgress | None
) -> tuple[list[int | None], list[tuple[int, bytes]], list[str]]:
    """Decode some pictures: return their codes, small copies of the shown ones, and those that failed."""
    codes: list[int | None] = []
    cards: list[tuple[int, bytes]] = []
    unreadable: list[str] = []
    for done, (row, picture) in enumerate(zip(rows, opened_ahead(collection.open, iter(rows)), strict=True)):
        if progress and done % 25 == 0:
            progress(done, len(rows), "comparing pictures")
        if isinstance(picture, Exception):
            codes.append(None)
            unreadable.append(str(getattr(picture, "message", picture)))
            continue
        codes.append(int(perceptual_codes([picture])[0]))
        if row in shown:
            cards.append((row, _small(picture)))
    return codes, cards, unreadable


def _small(picture: Image) -> bytes:
    copy = picture.copy()
    copy.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE))
    file = io.BytesIO()
    copy.save(file, "JPEG", quality=85)
    return file.getvalue()


def _opened(small: bytes) -> Image:
    from PIL import Image as Pillow

    with Pillow.open(io.BytesIO(small), formats=("JPEG",)) as picture:
        return picture.convert("RGB")


def _page(collection: CaptionedImages, cards: Sequence[tuple[int, bytes]]) -> str:
    """Return a page of sample pictures with their texts; it needs no other file."""
    parts = []
    for row, data in cards:
        item = collection.items[row]
        texts = [f"{language}: {texts[0]}" for language, texts in list(item.captions.items())[:3]]
        words = [item.id, *texts, *([f"split: {item.split}"] if item.split else [])]
        lines = "".join(f"<div>{html.escape(text[:_SHOWN_CHARACTERS])}</div>" for text in words)
        image = base64.b64encode(data).decode()
        parts.append(f'<figure><img src="data:image/jpeg;base64,{image}" alt="">{lines}</figure>')
    title = html.escape(f"Samples of {collection.name}")
    style = (
        "body{font:13px sans-serif;margin:2em}main{display:flex;flex-wrap:wrap;gap:16px}"
        f"figure{{margin:0;width:{_SHOWN_SIDE + 20}px;overflow-wrap:anywhere}}"
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{style}</style><h1>{title}</h1><main>{''.join(parts)}</main></html>\n"
    )


def _samples(collection: CaptionedImages, cards: Sequence[tuple[int, bytes]]) -> Iterator[wb.View]:
    """Yield the sample pictures with their texts, for places that show views."""
    items = []
    for row, data in cards:
        item = collection.items[row]
        texts = [f"{language}: {texts[0]}" for language, texts in list(item.captions.items())[:3]]
        items.append(
            {
                "caption": item.id[:_SHOWN_CHARACTERS],
                "subtitle": " · ".join(text[:_SHOWN_CHARACTERS] for text in texts),
                "note": f"split: {item.split}" if item.split else "",
                "image": base64.b64encode(data).decode(),
            }
        )
    if items:
        yield wb.View(kind="image_grid", title="Samples", data={"items": items})


# --- what is broken ----------------------------------------------------------------------------------------


def _broken(
    collection: CaptionedImages, unreadable: Sequence[str], made: dict[str, Any]
) -> Iterator[wb.View]:
    """Yield the first lines and pictures that cannot be used, with the reason and the file that has all."""
    if problems := collection.problems:
        rows = [{"line": str(one.line), "why": one.message} for one in problems[:_LISTED]]
        columns = [{"key": "line", "label": "line"}, {"key": "why", "label": "reason"}]
        yield _list("Left out", columns, rows, len(problems), made["problems"])
    if unreadable:
        rows = [{"why": line} for line in unreadable[:_LISTED]]
        columns = [{"key": "why", "label": "picture and reason"}]
        yield _list("Pictures that cannot be read", columns, rows, len(unreadable), made["unreadable"])


def _list(
    title: str, columns: list[dict[str, str]], rows: list[dict[str, str]], count: int, path: str
) -> wb.View:
    more = f"And {count - len(rows):,} more. " if count > len(rows) else ""
    data = {"columns": columns, "rows": rows}
    return wb.View(kind="retrieval_table", title=title, data=data, notes=[f"{more}All of them: {path}"])


# --- duplicates ---------------------------------------------------------------------------------------------


def _equal(collection: CaptionedImages, *, thorough: bool) -> list[list[int]]:
    """Return groups of equal pictures: by their pixels if all were decoded, else by their files."""
    if not thorough:
        return equal_files([item.image for item in collection.items])
    groups: dict[str, list[int]] = {}
    for row, item in enumerate(collection.items):
        groups.setdefault(item.digest, []).append(row)
    return [rows for rows in groups.values() if len(rows) > 1]


def _near(
    collection: CaptionedImages, rows: Sequence[int], codes: Sequence[int], equal: Sequence[Sequence[int]]
) -> list[list[int]]:
    """Return pairs of pictures that look alike and are not equal."""
    import numpy as np

    same = {row: number for number, group in enumerate(equal) for row in group}
    pairs = near_pairs(np.array(codes, dtype=np.uint64), most=MOST_PAIRS) if codes else []
    out = [[rows[one], rows[other]] for one, other in pairs if codes[one] or codes[other]]
    return [pair for pair in out if same.get(pair[0], -1) != same.get(pair[1], -2)]


def _lines(what: str, collection: CaptionedImages, groups: Sequence[Sequence[int]]) -> Iterator[str]:
    for group in groups:
        names = (f"{_named(collection, row)}" for row in group)
        yield f"{what}: {'  '.join(names)}\n"


def _named(collection: CaptionedImages, row: int) -> str:
    item = collection.items[row]
    return f"{item.id} ({item.split})" if item.split else item.id


def _alike(
    collection: CaptionedImages,
    equal: Sequence[Sequence[int]],
    near: Sequence[Sequence[int]],
    made: dict[str, Any],
) -> Iterator[wb.View]:
    """Yield the first pictures that are equal or look alike, those in different splits first."""
    groups = [("equal", group) for group in equal] + [("look alike", group) for group in near]
    if not groups:
        return
    groups.sort(key=lambda pair: not _in_several_splits(collection, pair[1]))
    rows = [
        {
            "what": what,
            "pictures": "  ".join(_named(collection, row) for row in group[:_EXAMPLES])
            + (f"  and {len(group) - _EXAMPLES:,} more" if len(group) > _EXAMPLES else ""),
            "splits": "yes" if _in_several_splits(collection, group) else "no",
        }
        for what, group in groups[:_LISTED]
    ]
    columns = [
        {"key": "what", "label": "what"},
        {"key": "pictures", "label": "pictures"},
        {"key": "splits", "label": "in different splits"},
    ]
    yield _list("Equal and similar pictures", columns, rows, len(groups), made["duplicates"])


def _in_several_splits(collection: CaptionedImages, group: Sequence[int]) -> bool:
    return len({collection.items[row].split for row in group}) > 1


#: How equal pictures are called in warnings.
_EQUAL = "equal pictures"


def _across(what: str, collection: CaptionedImages, groups: Sequence[Sequence[int]]) -> list[str]:
    """Return a warning about pictures that are in several splits."""
    across = [group for group in groups if _in_several_splits(collection, group)]
    if not across:
        return []
    shown = "; ".join(
        " and ".join(_named(collection, row) for row in group[:2]) for group in across[:_EXAMPLES]
    )
    times = "once" if len(across) == 1 else f"{len(across):,} times"
    refused = ""
    if what == _EQUAL and any(_leaks(collection, group) for group in across):
        refused = ". A training refuses that unless accept_training_pictures_in_test=true"
    return [f"{what} in different splits, {times}: {shown}{refused}"]


def _leaks(collection: CaptionedImages, rows: Sequence[int]) -> bool:
    """Return whether a training with the collection's splits would learn from a picture that it tests on."""
    splits = {collection.items[row].split for row in rows}
    return "train" in splits and bool(splits & {"test", "query", "gallery"})


# --- tables -------------------------------------------------------------------------------------------------


def _table(
    title: str, head: tuple[str, str], rows: list[dict[str, Any]], notes: Sequence[str] = ()
) -> wb.View:
    data = {"head": list(head), "rows": rows}
    return wb.View(kind="metrics_table", title=title, data=data, notes=list(notes))


def _rows(counts: Mapping[str, float]) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in counts.items()]


def _by_part(collection: CaptionedImages) -> Iterator[wb.View]:
    pictures: Counter[str] = Counter()
    captions: Counter[str] = Counter()
    splits: Counter[str] = Counter(item.split for item in collection.items if item.split)
    labels: Counter[str] = Counter(label for item in collection.items for label in item.labels)
    most: Counter[int] = Counter()
    for item in collection.items:
        most[max((len(texts) for texts in item.captions.values()), default=0)] += 1
        for language, texts in item.captions.items():
            pictures[language] += 1
            captions[language] += len(texts)
    if pictures:
        yield _table(
            "Captions by language",
            ("Language", "Captions"),
            [
                {"name": one, "value": captions[one], "note": f"of {_number(pictures[one], 'picture')}"}
                for one, _ in pictures.most_common()
            ],
        )
        rows = _rows({str(count): most[count] for count in sorted(most)})
        yield _table("Captions per picture, in one language", ("Captions", "Pictures"), rows)
    if splits:
        left = len(collection) - splits.total()
        rows = _rows(dict(splits.most_common()))
        yield _table(
            "Splits", ("Split", "Pictures"), rows + ([{"name": "none", "value": left}] if left else [])
        )
    if labels:
        rows = _rows(dict(labels.most_common(_LABELS)))
        more = len(labels) - _LABELS
        yield _table(
            "Labels", ("Label", "Pictures"), rows, [f"And {more:,} more labels."] if more > 0 else []
        )


def _training(collection: CaptionedImages, warnings: list[str]) -> Iterator[wb.View]:
    """Yield what a training with split seed 0 would use."""
    if not collection.languages:
        warnings.append(
            "No captions: an index can be built of it and searched by picture, but nothing can be trained."
        )
        return
    try:
        splits = make_splits(collection, 0)
    except wb.WorkbenchError as error:
        warnings.append(f"A training would refuse it: {error.message}")
        return
    rows = _rows({part.replace("_", " "): count for part, count in splits.counts.items()})
    yield _table("What a training would use", ("Part", "Pictures"), rows, splits.notes)
