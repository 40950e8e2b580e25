"""Local processes note that they are alive: at once, then once a minute, and only for open runs."""

from __future__ import annotations

import pytest

import workbench as wb
from workbench.errors import StoreUnavailable
from workbench.host import processes
from workbench.store.heart import NOTE_SECONDS, LocalHeart


def test_a_note_is_made_at_once_and_then_when_it_is_due(workspace: wb.Workspace) -> None:
    now, noted = [0.0], []
    store = workspace.store
    heart = LocalHeart(store, timer=lambda: now[0])
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
    LocalHeart(workspace.store).beat([1])


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
