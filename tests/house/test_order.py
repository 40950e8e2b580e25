"""The order in which the files of tests are run, and what several workers share."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import Any

import pytest

from tests import order, tiers
from tests.waiting import GUARD

QUICK, SLOW = "tests/house/test_house.py", "tests/browser/test_why.py"
LONG, LESS_LONG = (f"tests/{name}" for name in tiers.LONG_FILES[:2])


def test_the_longest_come_first_and_the_quick_ones_fill_what_is_left() -> None:
    units, order_of_units = [QUICK, SLOW, LESS_LONG, LONG, order.DEMO], []
    while units:
        order_of_units.append(order.following(units, ()))
        units.remove(order_of_units[-1])
    assert order_of_units == [order.DEMO, LONG, LESS_LONG, SLOW, QUICK]


def test_what_waits_for_the_demo_comes_only_if_there_is_nothing_else() -> None:
    assert order.following([LONG, QUICK], [LONG]) == QUICK
    assert order.following([LONG], [LONG]) == LONG


def test_the_long_files_are_slow_files_that_exist() -> None:
    assert [name for name in tiers.LONG_FILES if not (order.TESTS / name).is_file()] == []
    assert [name for name in tiers.LONG_FILES if not tiers.is_slow(name, frozenset())] == []
    assert len(set(tiers.LONG_FILES)) == len(tiers.LONG_FILES)


class Node:
    """A worker of xdist that notes which tests it was given."""

    shutting_down = False

    def __init__(self, collection: list[str]) -> None:
        self.collection = collection
        self.given: list[str] = []
        self.gateway = SimpleNamespace(id="gw")

    def send_runtest_some(self, indices: list[int]) -> None:
        self.given += [self.collection[index] for index in indices]

    def shutdown(self) -> None:
        self.shutting_down = True


def test_the_demo_is_made_first_and_its_copies_wait_for_it(pytestconfig: pytest.Config) -> None:
    demo, copies = order.users_of("demo_results"), order.users_of("demo_copy")
    assert "tests/stories/test_demo_story.py" in demo
    assert "tests/house/test_readme.py" in copies
    assert not demo & copies
    others = [f"tests/house/test_{letter}.py" for letter in "abcde"]
    files = [*sorted(copies), *others, *sorted(demo)]
    # Of three tests each: a worker that has three before it is given no more.
    collection = [f"{file}::test_{number}" for file in files for number in range(3)]
    config: Any = SimpleNamespace(
        getvalue=lambda _: ["popen", "popen"],
        option=SimpleNamespace(loadscopereorder=False, tx=["popen", "popen"]),
        getoption=pytestconfig.getoption,
    )
    scheduler = order.scheduler(config, None)
    first, second = Node(collection), Node(collection)
    for node in (first, second):
        scheduler.add_node(node)
        scheduler.add_node_collection(node, collection)
    scheduler.schedule()
    assert {name.split("::")[0] for name in first.given} == demo
    # The other goes on with what needs no demo ...
    for name in (f"{file}::test_{number}" for file in others[:3] for number in range(3)):
        scheduler.mark_test_complete(second, collection.index(name))
    assert {name.split("::")[0] for name in second.given} == set(others[:4])
    # ... until it is there.
    scheduler.mark_test_complete(first, collection.index(first.given[0]))
    for number in range(3):
        scheduler.mark_test_complete(second, collection.index(f"{others[3]}::test_{number}"))
    assert second.given[-3].split("::")[0] in copies


def test_one_makes_what_all_use_and_a_failed_try_is_made_again(tmp_path: Path) -> None:
    calls, together = [], Barrier(3)

    def make(folder: Path) -> dict[str, int]:
        calls.append(sorted(path.name for path in folder.iterdir()))
        (folder / "made").write_text("it")
        if len(calls) == 1:
            raise OSError("not yet")
        return {"tries": len(calls)}

    with pytest.raises(OSError, match="not yet"):
        order.made_once(tmp_path / "new" / "thing", make)

    def ask(_: int) -> tuple[Path, Any]:
        together.wait(GUARD)
        return order.made_once(tmp_path / "new" / "thing", make)

    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(ask, range(3)))
    assert answers == [(tmp_path / "new" / "thing", {"tries": 2})] * 3
    assert calls == [[], []]  # a new folder for each try
    assert json.loads((tmp_path / "new" / "thing.json").read_text()) == {"tries": 2}


def test_workers_of_one_run_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    assert order.shared_folder(tmp_path) == tmp_path
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw1")
    assert order.shared_folder(tmp_path / "popen-gw1") == tmp_path
