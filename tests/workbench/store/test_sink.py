"""Local processes note that they are alive: at once, then once a minute, and only for open runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import workbench as wb
from workbench.errors import StoreUnavailable
from workbench.host import processes
from workbench.store.points import Batch
from workbench.store.sink import NOTE_SECONDS, LocalSink


def test_a_note_is_made_at_once_and_then_when_it_is_due(workspace: wb.Workspace) -> None:
    now, noted = [0.0], []
    store = workspace.store
    heart = LocalSink(store, timer=lambda: now[0])
    store.note_alive = lambda run_ids, key: noted.append(list(run_ids))  # type: ignore[method-assign]
    heart.beat([1])
    heart.beat([1, 2])
    now[0] = NOTE_SECONDS - 1
    heart.beat([1, 2])
    now[0] = NOTE_SECONDS
    heart.beat([2])
    heart.beat([])
    assert noted == [[1], [2], [2]]


def test_a_database_that_is_away_does_not_stop_the_logging(
    workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(workspace.store, "note_alive", away)
    LocalSink(workspace.store).beat([1])


def test_a_run_that_is_logged_in_a_container_is_noted(
    workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = workspace.start_run("e")
    outside.log({"m": 1.0})
    outside.flush()
    monkeypatch.setattr(processes, "numbering", lambda: "4026532221")
    with wb.Workspace(workspace.path) as inside:
        run = inside.start_run("e")
        run.log({"m": 1.0})
        run.flush()
        run.finish()
    heard = workspace.store.heard_of([outside.id, run.id])
    assert list(heard) == [run.id]


def batch(*values: float) -> Batch:
    return Batch(list(range(len(values))), [0.0] * len(values), list(values))


def away(store: Any, *, before: bool, undone: bool) -> Callable[..., None]:
    """Return an ``add_batches`` that breaks before or after it has committed."""

    def add(*given: Any, **more: Any) -> None:
        if not before:
            type(store).add_batches(store, *given, **more)
        error = StoreUnavailable("cannot reach the database: the connection was lost")
        error.undone = undone
        raise error

    return add


@pytest.mark.parametrize(("before", "undone"), [(True, True), (True, False), (False, False)])
def test_a_batch_of_which_nobody_knows_is_stored_once(
    workspace: wb.Workspace, postgres: Any, monkeypatch: pytest.MonkeyPatch, before: bool, undone: bool
) -> None:
    """The server crashes before the commit, or after it and before it says so."""
    with wb.Workspace(workspace.path, database_url=postgres.new_database()) as home:
        run = home.start_run("e")
        sink, key = LocalSink(home.store), (run.id, "m")
        sink.add_batches({key: batch(1.0)}, {})
        with monkeypatch.context() as patch:
            patch.setattr(home.store, "add_batches", away(home.store, before=before, undone=undone))
            for known in (batch(2.0, 3.0), batch(2.0, 3.0, 4.0)):  # more was logged meanwhile
                with pytest.raises(StoreUnavailable):
                    sink.add_batches({key: known}, {})
        sink.add_batches({key: batch(2.0, 3.0, 4.0, 5.0), (run.id, "n"): batch(9.0)}, {})
        sink.add_batches({key: batch(6.0)}, {})
        assert [value for _, _, value in run.metric_points("m")] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        assert [value for _, _, value in run.metric_points("n")] == [9.0]


def test_a_forked_child_sends_under_numbers_of_its_own(workspace: wb.Workspace) -> None:
    sink = LocalSink(workspace.store)
    before = sink._key
    sink.forget_connections()
    assert sink._key != before
