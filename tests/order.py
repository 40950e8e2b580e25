"""Which file of tests a worker takes next, so that all of them end at about the same time.

The demo is run once, by the tests that look at what it left; those that go on with a copy of its workspace
wait for it. All of that takes longer than anything else, so it comes first; then what else takes long, the
rest of the slow tests, and the quick ones, which fill what is left.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from tests.tiers import LONG_FILES, is_slow

TESTS = Path(__file__).parent

#: The unit of the files that look at the demo's own results: they share its workspace, and run one by one.
DEMO = "the demo's results"


def users_of(fixture: str) -> frozenset[str]:
    """Return the files of tests that take a fixture, as their ids begin: ``tests/browser/test_lab.py``."""
    argument = re.compile(rf"[(\s]{fixture}[,:)]")
    return frozenset(
        path.relative_to(TESTS.parent).as_posix()
        for path in TESTS.rglob("test_*.py")
        if argument.search(path.read_text(encoding="utf-8"))
    )


def following(units: Collection[str], waiting: Collection[str]) -> str:
    """Return the unit of tests that comes next: a file, or :data:`DEMO`.

    Parameters
    ----------
    units : collection of str
        Those that no worker has taken, at least one.
    waiting : collection of str
        Those that wait for the demo; one of them comes only if there is nothing else.
    """
    return min(units, key=lambda unit: (unit in waiting, *_rank(unit)))


def _rank(unit: str) -> tuple[int, int]:
    """Return the place of a unit: lower ones first, equal ones in the order in which they were collected."""
    file = unit.removeprefix("tests/")
    if unit == DEMO:
        return 0, 0
    if file in LONG_FILES:
        return 1, LONG_FILES.index(file)
    return (2, 0) if is_slow(file, frozenset()) else (3, 0)


def scheduler(config: Any, log: Any) -> Any:
    """Return the scheduler of xdist that gives each file as a whole to one worker, in this order.

    A fixture of a module is then made once.
    """
    from xdist.scheduler import LoadFileScheduling

    demo, copies = users_of("demo_results"), users_of("demo_copy")

    class InOrder(LoadFileScheduling):  # type: ignore[misc]
        #: Whether tests of the run will make the demo, and have not begun to look at it.
        demo_is_coming: bool | None = None

        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::", 1)[0]
            return DEMO if file in demo else file

        def _assign_work_unit(self, node: Any) -> None:
            if self.demo_is_coming is None:
                self.demo_is_coming = DEMO in self.workqueue
            unit = following(self.workqueue, copies if self.demo_is_coming else ())
            self.workqueue.move_to_end(unit, last=False)
            super()._assign_work_unit(node)

        def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
            if self._split_scope(self.registered_collections[node][item_index]) == DEMO:
                self.demo_is_coming = False  # it is there, or could not be made
            super().mark_test_complete(node, item_index, duration)

    return InOrder(config, log)


def made_once(folder: Path, make: Callable[[Path], Any]) -> tuple[Path, Any]:
    """Let the first process that asks make something in a folder; the others wait for it.

    Parameters
    ----------
    folder : Path
        Where it is made, in a folder that the processes share. It is made again where an earlier try failed.
    make : callable
        Called as ``make(folder)`` with a new folder. What it returns must have a JSON form.

    Returns
    -------
    folder : Path
    value
        What ``make`` returned, here or in another process.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    record = folder.with_name(f"{folder.name}.json")
    with folder.with_name(f"{folder.name}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not record.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            record.write_text(json.dumps(make(folder)), encoding="utf-8")
    return folder, json.loads(record.read_text(encoding="utf-8"))


def shared_folder(own: Path) -> Path:
    """Return the folder that all workers of this run share; ``own`` is the base of a worker's own folders."""
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
