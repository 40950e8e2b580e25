"""The thread that writes metric points: how long it may take when the process ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from workbench.errors import StoreUnavailable
from workbench.store import writer
from workbench.store.writer import Writer

SECONDS = 5.0


class Slow:
    """A database for which each commit takes four seconds of a clock of its own."""

    def __init__(self, clock: list[float]) -> None:
        self.clock, self.values, self.ended = clock, [], []  # type: ignore[var-annotated]
        self.go_on = threading.Event()
        self.away = False

    def add_batches(self, batches: dict[Any, Any], better: Any) -> None:
        self.go_on.wait(60)
        self.clock[0] += SECONDS - 1
        if self.away:
            raise StoreUnavailable("away")
        self.values += [value for batch in batches.values() for value in batch.values]

    def end_run(self, run_id: int, status: str, error: Any) -> None:
        self.ended.append((run_id, status))

    def forget_connections(self) -> None: ...


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Slow, Writer]]:
    clock = [0.0]
    monkeypatch.setattr(writer.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(writer, "BATCH_POINTS", 1)
    monkeypatch.setattr(writer, "_RETRY_SECONDS", 0.01)
    store = Slow(clock)
    writing = Writer(store)  # type: ignore[arg-type]
    writing.begin(1)
    for step in range(6):
        writing.put((1, step, 0.0, [("m", float(step))]), 1)
    yield store, writing
    store.away = False
    store.go_on.set()
    writing.ended(1)
    writing.stop()


def test_a_long_queue_is_written_as_long_as_commits_go_on(slow: tuple[Slow, Writer]) -> None:
    store, writing = slow
    store.go_on.set()
    writing.part(SECONDS, {"type": "Terminated", "message": "m"})
    assert store.values == [0, 1, 2, 3, 4, 5]
    assert store.clock[0] > 4 * SECONDS  # longer than the limit for what does not go on
    assert store.ended == [(1, "failed")]


def test_a_database_that_is_away_is_given_up(slow: tuple[Slow, Writer]) -> None:
    store, writing = slow
    store.away = True
    store.go_on.set()
    writing.part(SECONDS, {"type": "Terminated", "message": "m"})
    assert store.values == store.ended == []
