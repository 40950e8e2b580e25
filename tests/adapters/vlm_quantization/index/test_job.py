"""What the job of an index says of pictures that could not be read, and of a disk that is too small."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import workbench as wb
from adapters.vlm_quantization.data.collection import CaptionedImages, UnusableLine
from adapters.vlm_quantization.data.digests import OPENING
from adapters.vlm_quantization.index import space
from adapters.vlm_quantization.index.build import IndexReport, Skipped
from adapters.vlm_quantization.index.job import (
    LISTED,
    SHOWN_UNREAD,
    UNREAD_FILE,
    checking_space,
    index_result,
)


class Job:
    """Stands for a job with a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workspace = SimpleNamespace(indexes=folder)
        self.seen: list[str] = []

    def write_file(self, name: str, text: str) -> Path:
        (self.folder / name).write_text(text)
        return self.folder / name

    def progress(self, done: float, total: float | None, message: str) -> None:
        self.seen.append(message)


def report(folder: Path, unread: int) -> IndexReport:
    skipped = tuple(Skipped(f"id {n}", "broken picture", f"/photos/{n}.jpg") for n in range(unread))
    return IndexReport(folder, "photos", 5, 0, skipped, 10, 0, 0, 1.0)


def result(folder: Path, unread: int, unusable: int = 0) -> wb.Result:
    problems = [UnusableLine(n, "no such file") for n in range(unusable)]
    collection = CaptionedImages("photos", (), problems=problems)
    job: Any = Job(folder)
    return index_result(collection, report(folder, unread), job, made={}, notes=[])


def test_a_few_unreadable_pictures_are_named_in_the_warnings(tmp_path: Path) -> None:
    made = result(tmp_path, 2)
    assert made.warnings == ["id 0: broken picture", "id 1: broken picture"]
    assert made.made["skipped"][1] == {"path": "/photos/1.jpg", "reason": "broken picture"}
    assert list(tmp_path.iterdir()) == []


def test_many_are_in_a_file_of_the_job_and_the_lists_are_bounded(tmp_path: Path) -> None:
    made = result(tmp_path, 500, unusable=150)
    assert len(made.made["skipped"]) == LISTED
    assert made.made["skipped"][0] == {"path": "line 0", "reason": "no such file"}
    assert len(made.warnings) == 1 + SHOWN_UNREAD + 1
    assert f"{500 - SHOWN_UNREAD} more pictures could not be read" in made.warnings[-1]
    assert str(tmp_path / UNREAD_FILE) in made.warnings[-1]
    lines = (tmp_path / UNREAD_FILE).read_text().splitlines()
    assert (len(lines), lines[499]) == (500, "/photos/499.jpg: broken picture")
    assert len((tmp_path / "skipped-lines.txt").read_text().splitlines()) == 150


def test_a_disk_that_is_too_small_stops_the_job_before_any_picture_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(space.shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 10_000, 10_000))
    job: Any = Job(tmp_path)
    encoder: Any = SimpleNamespace(dim=64, bits=(8, 128))
    progress = checking_space(job, "photos", encoder)
    progress(3, 10, "reading tar files")
    with pytest.raises(wb.WrongState, match="the index needs at least"):
        progress(0, 1_000, OPENING)
    assert job.seen == ["reading tar files"]
