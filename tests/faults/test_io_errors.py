"""Reads and writes that fail: in the system, in the disk, in the database; while jobs run."""

from __future__ import annotations

import os
import random
import resource
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest

from tests.faults.report import Report
from tests.faults.stack import Stack, stack, until
from workbench.host import files
from workbench.notebooks import saving

#: A failure is true where it says that something could not be written.
REASONS = (
    "I/O error",
    "Input/output error",
    "File too large",
    "could not be saved",
    "No usable temporary directory",  # Python tries each of them by writing to it
)


def readable(broken: Stack) -> None:
    """Check that every executed notebook is one."""
    for path in broken.home.jobs_dir.glob("*/notebook*.ipynb"):
        nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)


@contextmanager
def no_writes(worker: int) -> Iterator[int]:
    """No write of any process of a worker to any file works, as the system itself says; yield how many."""
    try:
        everyone = [psutil.Process(worker), *psutil.Process(worker).children(recursive=True)]
    except psutil.Error:
        everyone = []
    limited = []
    for process in everyone:
        try:
            before = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, before[1]))
        except ProcessLookupError:
            continue
        limited.append((process.pid, before))
    try:
        yield len(limited)
    finally:
        # Those that were started meanwhile have inherited it.
        with_children = dict(limited)
        for pid, before in limited:
            for child in _children(pid):
                with_children.setdefault(child, before)
        for pid, before in with_children.items():
            try:
                resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
            except ProcessLookupError:
                continue


def _children(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return []


@pytest.mark.endurance
def test_writes_fail_now_and_then(tmp_path: Path, report: Report) -> None:
    """Database, notebooks and logs at once, of worker, runner and kernel: a real error of a real write."""
    dice = random.Random(time.time_ns())
    with stack(tmp_path, report) as broken:
        broken.reasons = REASONS
        worker = broken.start_worker(slots=2)
        for _ in range(40):
            while len(broken.handles) - len(broken.told) < 3:
                broken.submit(steps=dice.choice((5, 20, 40)))
            time.sleep(dice.uniform(0.0, 1.0))
            with no_writes(worker.pid) as count:
                time.sleep(dice.choice((0.05, 0.3, 1.5)))
            report.faults["time without writes"] += bool(count)
            broken.look()
            readable(broken)
            assert worker.poll() is None, broken.worker_log()
        broken.settle()
        assert worker.poll() is None, broken.worker_log()
        after = broken.submit(steps=1)
        ends = broken.finish()
        assert after.refresh().status == "succeeded"
        readable(broken)
        print(dict(ends))


def test_fsync_rename_and_commit_fail_now_and_then(
    tmp_path: Path, report: Report, monkeypatch: pytest.MonkeyPatch, long_form: bool
) -> None:
    """EIO where a file is brought to the disk, or renamed; and commits of which nobody knows the outcome."""
    folder = tmp_path / "sabotage"
    folder.mkdir()
    monkeypatch.setenv("SABOTAGE", str(folder))
    dice = random.Random(time.time_ns() if long_form else 9)
    with stack(tmp_path, report) as broken:
        source = Path(__file__).with_name("saboteur.py")
        (tmp_path / "package" / "sitecustomize.py").write_text(source.read_text(encoding="utf-8"))
        broken.reasons = REASONS
        worker = broken.start_worker(slots=2)
        hits: Counter[str] = Counter()
        wanted = {"fsync", "replace", "commit", "commit that was made"}
        deadline = time.monotonic() + 900
        rounds = 30 if long_form else 3
        while rounds > 0 or not wanted <= hits.keys():  # until each of them has happened
            assert time.monotonic() < deadline, f"it struck too seldom: {hits}"
            rounds -= 1
            for what in ("fsync", "replace", "commit"):
                (folder / what).write_text(str(dice.choice((0.0, 0.1, 0.5))))
            while len(broken.handles) - len(broken.told) < 4:
                broken.submit(steps=dice.choice((5, 20, 40)), max_attempts=4)
            time.sleep(dice.uniform(0.5, 2.0))
            broken.look()
            readable(broken)
            assert worker.poll() is None, broken.worker_log()
            hits = struck(folder)
        for what in ("fsync", "replace", "commit"):
            (folder / what).unlink()
        broken.settle()
        assert worker.poll() is None, broken.worker_log()
        after = broken.submit(steps=1)
        ends = broken.finish()
        assert after.refresh().status == "succeeded"
        readable(broken)
        assert not list(broken.home.jobs_dir.glob("*/.*.part"))
        hits = struck(folder)
        report.faults += Counter({f"EIO at {what}": count for what, count in hits.items()})
        # After a failed fsync the file's content on disk is unknown, so it is written again.
        assert not (folder / "retried").exists(), (folder / "retried").read_text()
        print(dict(ends), dict(hits))


def struck(folder: Path) -> Counter[str]:
    """Return what was hit how often."""
    hits = folder / "hits"
    lines = hits.read_text().splitlines() if hits.exists() else []
    return Counter(line.partition(" /")[0] for line in lines)


class Failing:
    """An fsync that fails a number of times, and records the files it was called for."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.files: list[int] = []

    def __call__(self, file: int) -> None:
        self.files.append(os.fstat(file).st_ino)
        self.times -= 1
        if self.times >= 0:
            raise OSError(5, "Input/output error")


def test_a_notebook_whose_fsync_fails_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "notebook.ipynb"
    saver = saving.NotebookSaver(path)
    saver.notebook = nbformat.v4.new_notebook()
    saver.save(force=True)
    old = path.read_bytes()
    failing = Failing(1)
    monkeypatch.setattr(os, "fsync", failing)
    saver.notebook.cells.append(nbformat.v4.new_code_cell("new"))
    saver._next_at = 0.0
    saver.save(touch=True)
    assert path.read_bytes() == old
    # Nothing to sync a second time, and nothing half written.
    assert {file.name for file in tmp_path.iterdir()} == {"notebook.ipynb", ".notebook.signatures"}
    assert "Input/output error" in capsys.readouterr().err
    saver._next_at = 0.0
    saver.save()  # it is still due
    assert "new" in path.read_text()
    assert len(failing.files) == 3  # refused once; then the new file, and the folder that holds its name


def test_the_last_save_that_fails_is_the_reason_only_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saver = saving.NotebookSaver(tmp_path / "notebook.ipynb")
    saver.notebook = nbformat.v4.new_notebook()
    monkeypatch.setattr(os, "fsync", Failing(2))
    saver.save_at_last(ValueError("what went wrong"))
    assert "could not be saved: Input/output error" in capsys.readouterr().err
    with pytest.raises(saving.NotSaved, match="could not be saved: Input/output error"):
        saver.save_at_last()


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_file_that_cannot_be_brought_to_the_disk_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    target = tmp_path / "file"
    files.write_whole(target, b"old")

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", Failing(1) if fails == "fsync" else os.fsync)
        patch.setattr(os, "replace", refuse if fails == "replace" else os.replace)
        with pytest.raises(OSError, match="Input/output error"):
            files.write_whole(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]
    files.write_whole(target, b"new")
    assert target.read_bytes() == b"new"


def test_a_cell_whose_writes_the_system_refuses_says_so(tmp_path: Path) -> None:
    """The way the tests above make writes fail does, and kills nobody."""
    with stack(tmp_path) as broken:
        worker = broken.start_worker(slots=1)
        job = broken.submit_notebook(
            "writes",
            "import time\nopen('there', 'w').close()\nwhile True:\n    open('mine', 'wb', 0).write(b'x')\n"
            "    time.sleep(0.01)",
        )
        until((tmp_path / "notes" / "there").exists, "the cell runs")
        with no_writes(worker.pid) as count:
            assert count >= 4  # worker, keeper, runner, kernel
            time.sleep(0.5)
        assert job.wait(300, check=False).status == "failed"
        assert job.error is not None
        assert "File too large" in job.error["message"]
        assert worker.poll() is None
