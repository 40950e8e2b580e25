"""Workers, schedulers and disks fail while an index is built on a cluster; it is that of a build alone.

In the short form everything fails a little in one build; ``--long`` counts each fault on its own.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from adapters.vlm_quantization.data.collection import CaptionedImages, Item, picture_digest
from adapters.vlm_quantization.index import shards
from adapters.vlm_quantization.index.build import build_index
from adapters.vlm_quantization.index.format import read_manifest
from tests.conftest import python_path
from tests.faults.report import Report
from tests.faults.slow_family import PAUSE, SlowEncoder
from tests.waiting import until
from workbench.engine.cluster import Cluster
from workbench.engine.opening import open_engine

HERE = Path(__file__).parent

#: Items of a shard, and shards of a build.
ITEMS, SHARDS = 4, 40


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> CaptionedImages:
    """Pictures in files, as workers read them."""
    folder = tmp_path_factory.mktemp("pictures")
    items = []
    for number in range(ITEMS * SHARDS):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        picture = Image.fromarray(pixels)
        path = folder / f"{number:04d}.png"
        picture.save(path)
        items.append(Item(path.stem, path.stem, {}, path, picture_digest(picture)))
    return CaptionedImages("noise", items)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder from which workers import the family, and the saboteur of their disks."""
    folder = tmp_path_factory.mktemp("packages")
    shutil.copy(HERE / "slow_family.py", folder)
    shutil.copy(HERE / "saboteur.py", folder / "sitecustomize.py")
    entry = folder / "slow_family-1.dist-info"
    entry.mkdir()
    (entry / "METADATA").write_text("Metadata-Version: 2.1\nName: slow_family\nVersion: 1\n")
    (entry / "entry_points.txt").write_text("[workbench.adapters]\nslow_family = slow_family:adapter\n")
    return folder


@pytest.fixture
def surroundings(packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set the environment of workers, and return the folder that steers the saboteur."""
    monkeypatch.setattr(shards, "SHARD_ITEMS", ITEMS)
    monkeypatch.setenv("PYTHONPATH", python_path(packages))
    monkeypatch.syspath_prepend(str(packages))
    monkeypatch.setenv("SABOTAGE", str(tmp_path / "sabotage"))
    monkeypatch.setenv(PAUSE, str(tmp_path / "pause"))
    (tmp_path / "pause").write_text("0.5")
    (tmp_path / "sabotage").mkdir()
    return tmp_path / "sabotage"


def build(folder: Path, pictures: CaptionedImages, **given: Any) -> dict[str, str]:
    """Build an index; return the digest of each of its files but the manifest, which has the time."""
    model = folder / "model.bin"
    model.touch()
    report = build_index(
        folder / "indexes",
        pictures,
        SlowEncoder(),
        name="noise",
        adapter="slow_family",
        model_file=model,
        captions=False,
        batch_size=ITEMS,
        **given,
    )
    return {name: seal.sha256 for name, seal in read_manifest(report.path, "slow_family").files.items()}


@pytest.fixture(scope="module")
def alone(pictures: CaptionedImages, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_ITEMS", ITEMS)
        return build(tmp_path_factory.mktemp("alone"), pictures)


class Watch:
    """What a build has finished: no finished shard may be made again, and none of its processes may stay."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "indexes"
        self.finished: dict[str, int] = {}
        self.again: list[str] = []
        self.words: set[str] = set()
        self.pids: set[int] = set()

    def __call__(self, done: float, total: float | None, message: str) -> None:
        self.words.add(message.partition("; ")[2].partition(",")[0])
        for file in self._folder.glob(".noise.building-*/shards/*.npz"):
            number = file.stat().st_ino  # a file that is written again gets another number
            if self.finished.setdefault(file.name, number) != number:
                self.again.append(file.name)
        self.pids |= {child.pid for child in psutil.Process().children(recursive=True)}


class Faults:
    """Breaks things in a thread while a build goes on; when all is broken, the rest of the build is quick."""

    def __init__(self, folder: Path, *faults: Callable[[], bool], pause: float = 0.3) -> None:
        self._slow = folder / "pause"
        self._faults = list(faults)
        self._pause = pause
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.failed: BaseException | None = None

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
        assert self.failed is None, self.failed

    def _run(self) -> None:
        try:
            while not self._over.wait(self._pause) and self._faults:
                self._faults = [fault for fault in self._faults if not fault()]
            self._slow.with_name("quick").write_text("0")
            self._slow.with_name("quick").replace(self._slow)
        except BaseException as error:
            self.failed = error


class Kills:
    """Kills one process at a time, so many in all; True once it has."""

    def __init__(self, cluster: Cluster, role: str, times: int, seed: int = 0) -> None:
        self._cluster, self._role, self._left = cluster, role, times
        self._random = random.Random(seed)
        self.made = 0

    def __call__(self) -> bool:
        victims = self._cluster.pids[self._role]
        if self._role == "worker":
            # Half of the time the process that performs the task, which is a child of Dask's worker.
            at_work = {pid: _children(pid) for pid in victims}
            victims = [pid for pid, children in at_work.items() if children]
            if self._random.random() < 0.5:
                victims = [child for children in at_work.values() for child in children]
        if victims and self._left:
            try:
                os.kill(self._random.choice(victims), signal.SIGKILL)
            except ProcessLookupError:
                return False
            self._left -= 1
            self.made += 1
        return not self._left


def _children(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.Error:
        return []


def check(watch: Watch, made: dict[str, str], alone: dict[str, str]) -> None:
    assert made == alone
    assert watch.again == []
    until(lambda: not any(_lives(pid) for pid in watch.pids), "no process is left", seconds=60)


def _lives(pid: int) -> bool:
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and "workbench.engine" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def hits(sabotage: Path) -> int:
    file = sabotage / "hits"
    return len(file.read_text().splitlines()) if file.exists() else 0


def test_an_index_is_whole_whatever_fails(
    pictures: CaptionedImages,
    alone: dict[str, str],
    surroundings: Path,
    tmp_path: Path,
    report: Report,
) -> None:
    """A little of everything in one build."""
    watch = Watch(tmp_path)
    (surroundings / "fsync").write_text("0.05")
    (surroundings / "replace").write_text("0.05")
    with Cluster(2) as cluster:
        workers, scheduler = Kills(cluster, "worker", 3), Kills(cluster, "scheduler", 1)
        with (
            Faults(tmp_path, lambda: len(watch.finished) > 5 and scheduler(), workers),
            open_engine(cluster.address) as on,
        ):
            made = build(tmp_path, pictures, engine=on, progress=watch)
    check(watch, made, alone)
    assert (workers.made, scheduler.made) == (3, 1)
    report.faults.update({"workers killed": 3, "schedulers killed": 1, "failed writes": hits(surroundings)})


@pytest.mark.endurance
def test_fifty_workers_are_killed(
    pictures: CaptionedImages,
    alone: dict[str, str],
    surroundings: Path,
    tmp_path: Path,
    report: Report,
) -> None:
    (tmp_path / "pause").write_text("2")
    watch = Watch(tmp_path)
    with Cluster(2) as cluster:
        kills = Kills(cluster, "worker", 50)
        with Faults(tmp_path, kills), open_engine(cluster.address) as engine:
            made = build(tmp_path, pictures, engine=engine, progress=watch)
    check(watch, made, alone)
    assert kills.made == 50
    report.faults["workers killed"] += 50


@pytest.mark.endurance
def test_fifty_local_processes_are_killed(
    pictures: CaptionedImages,
    alone: dict[str, str],
    surroundings: Path,
    tmp_path: Path,
    report: Report,
) -> None:
    watch, killed = Watch(tmp_path), []

    def kill() -> bool:
        if len(killed) >= 2 * len(watch.finished) + 2:  # so that no part seems to be what kills them
            return False
        if victims := [pid for pid in _children(os.getpid()) if _lives(pid)]:
            os.kill(random.choice(victims), signal.SIGKILL)
            killed.append(1)
        return len(killed) >= 50

    with Faults(tmp_path, kill, pause=0.2):
        made = build(tmp_path, pictures, engine="local:2", progress=watch)
    check(watch, made, alone)
    assert len(killed) == 50
    report.faults["local processes killed"] += 50


@pytest.mark.endurance
def test_the_scheduler_is_killed_ten_times(
    pictures: CaptionedImages, alone: dict[str, str], surroundings: Path, tmp_path: Path, report: Report
) -> None:
    watch, seen = Watch(tmp_path), [0]
    with Cluster(2) as cluster:
        kills = Kills(cluster, "scheduler", 10)

        def kill_after_some_work() -> bool:
            if len(watch.finished) < seen[0] + 2:
                return False
            seen[0] = len(watch.finished)
            return kills()

        with Faults(tmp_path, kill_after_some_work), open_engine(cluster.address) as engine:
            made = build(tmp_path, pictures, engine=engine, progress=watch)
    check(watch, made, alone)
    assert kills.made == 10
    assert any("waiting for the scheduler" in words for words in watch.words)
    report.faults["schedulers killed"] += 10


@pytest.mark.endurance
def test_all_workers_are_gone_for_a_minute(
    pictures: CaptionedImages, alone: dict[str, str], surroundings: Path, tmp_path: Path, report: Report
) -> None:
    watch = Watch(tmp_path)
    with Cluster(0) as scheduler:
        groups = [Cluster(2, scheduler=scheduler.scheduler)]
        gone: list[float] = []

        def leave_and_come_back() -> bool:
            if not gone and len(watch.finished) >= 5:
                for pid in groups[0].pids["worker"]:
                    os.kill(pid, signal.SIGKILL)
                groups[0].close()
                gone.append(time.monotonic())
            if gone and time.monotonic() - gone[0] > 60:
                groups.append(Cluster(2, scheduler=scheduler.scheduler))
                return True
            return False

        with Faults(tmp_path, leave_and_come_back), open_engine(scheduler.address) as engine:
            made = build(tmp_path, pictures, engine=engine, progress=watch)
        for group in groups:
            group.close()
    check(watch, made, alone)
    assert len(groups) == 2
    assert "waiting for workers" in watch.words
    report.faults["all workers gone for a minute"] += 1


@pytest.mark.endurance
@pytest.mark.parametrize("seed", range(3))
def test_storage_fails_one_write_in_twenty(
    pictures: CaptionedImages,
    alone: dict[str, str],
    surroundings: Path,
    tmp_path: Path,
    report: Report,
    seed: int,
) -> None:
    (tmp_path / "pause").write_text("0")
    watch = Watch(tmp_path)
    for call in ("fsync", "replace"):
        (surroundings / call).write_text("0.05")
    made = build(tmp_path, pictures, engine="local:2", progress=watch)
    check(watch, made, alone)
    assert hits(surroundings)
    report.faults["failed writes"] += hits(surroundings)


@pytest.mark.endurance
def test_workers_whose_scheduler_is_gone_end_within_a_minute() -> None:
    with Cluster(0) as scheduler:
        joined = Cluster(2, scheduler=scheduler.scheduler)
        with open_engine(scheduler.address) as engine:
            until(lambda: engine.workers == 2)
    pids = joined.pids["worker"]
    until(lambda: not any(map(_lives, pids)), seconds=60)
    until(lambda: joined.problem == "the scheduler is gone, and was waited for in vain")
    joined.close()
