"""Conditions and orders over all runs, evaluated by each kind of database."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from typing import Any

import pytest

import workbench as wb
from workbench.runs import where
from workbench.runs.selection import check_settings, selection
from workbench.store.points import Batch
from workbench.store.records import RunRecord
from workbench.store.store import Store

MAY = datetime(2026, 5, 31, 12, tzinfo=UTC).timestamp()
NFD = unicodedata.normalize("NFD", "강아지")

#: name, experiment, and what else a run has.
RUNS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("a1", "old", {"config": {"lr": 0.1, "model": {"width": 64, "name": "resnet50"}, "amp": True,
                          "x": None}}),
    ("a2", "old", {"config": {"lr": 0.001, "model": {"width": 128, "name": "vit"}, "amp": False},
                   "tags": {"baseline": True, "owner": "kim"}, "status": "failed", "seed": 3}),
    ("b1", "new", {"config": {"lr": "auto", "model.width": 256, "deep": {"a": {"b": 1}}},
                   "tags": {"baseline": False, "size": 3}, "created_at": MAY, "finished_at": MAY + 7200,
                   "notes": "with new data"}),
    (NFD, "new", {"config": {"lr": 1e-5, "words": ["a"]}, "tags": {"강": True}, "archived_at": 1.0,
                  "created_at": MAY - 86400.0 * 31}),
)  # fmt: skip

METRICS = {"a1": {"loss": [3.0, 1.0, 2.0], "f1[macro].x": [0.5]}, "a2": {"loss": [0.5]}}


def fill(store: Store) -> dict[str, int]:
    ids = {}
    for name, experiment, more in RUNS:
        columns = {"status": "succeeded", "created_at": 1e9, "finished_at": 1e9 + 60, **more}
        ids[name] = store.add_run(RunRecord(experiment_id=0, name=name, **columns), experiment).id or 0
    for name, metrics in METRICS.items():
        for metric, values in metrics.items():
            key = (ids[name], metric)
            count = len(values)
            store.add_batches({key: Batch(list(range(count)), [1.0] * count, values)}, {key: "lower"})
    return ids


def found(store: Store, text: str, **more: Any) -> list[str]:
    chosen = selection(store, where=text, **{"archived": None, "sort": "id", **more})
    return [unicodedata.normalize("NFC", row.name) for row in store.runs(**chosen)]


#: A condition, and the names of the runs that match.
CONDITIONS: tuple[tuple[str, list[str]], ...] = (
    ("config.lr < 0.01", ["a2", "강아지"]),
    ("config.lr >= 0.1", ["a1"]),
    ("config.lr:0.1", ["a1"]),
    ("config.lr = 1e-1", ["a1"]),
    ("config.lr:auto", ["b1"]),
    ("config.lr:au*", ["b1"]),
    ("config.lr:*", ["a1", "a2", "b1", "강아지"]),
    ("not config.lr < 0.01", ["a1", "b1"]),
    ("config.model.width > 100", ["a2", "b1"]),
    ("config.model.name:(vit, resnet50)", ["a1", "a2"]),
    ("config.model.name:resnet*", ["a1"]),
    ("config.amp:true", ["a1"]),
    ("config.amp:false", ["a2"]),
    ("config.x:null", ["a1"]),
    ("config.x:*", []),
    ("config.deep.a.b:1", ["b1"]),
    ("config.words:a", []),
    ("tag:baseline", ["a2"]),
    ("tag:강", ["강아지"]),
    ("tag.owner:k*", ["a2"]),
    ("tag.size >= 3", ["b1"]),
    ("tag.baseline:false", ["b1"]),
    ("name:강아지", ["강아지"]),
    ("name:a*", ["a1", "a2"]),
    ("experiment:new and not name:b1", ["강아지"]),
    ("status:(failed, lost)", ["a2"]),
    ("notes:with*", ["b1"]),
    ("notes:*", ["b1"]),
    ("seed:3", ["a2"]),
    ("seed:*", ["a2"]),
    ("job:*", []),
    ("id >= 3", ["b1", "강아지"]),
    ("seconds > 3600", ["b1"]),
    ("created:2026", ["b1", "강아지"]),
    ("created:2026-05", ["b1"]),
    ("created >= 2026-05-31T12:00", ["b1"]),
    ("created > 2026-05-31T12:00", []),
    ("created < 2002", ["a1", "a2"]),
    ("created <= 2026-04", ["a1", "a2", "강아지"]),
    ("finished < 2002-01-01", ["a1", "a2", "강아지"]),
    ("archived:true", ["강아지"]),
    ("archived:false", ["a1", "a2", "b1"]),
    ("metric.loss < 1", ["a2"]),
    ("metric.loss.best <= 1", ["a1", "a2"]),
    ("metric.loss.max > 2", ["a1"]),
    ("metric.loss.count:3", ["a1"]),
    ("metric.f1[macro].x:0.5", ["a1"]),
    ("metric.loss:*", ["a1", "a2"]),
    ("not metric.loss:*", ["b1", "강아지"]),
    ("(tag:baseline or experiment:new) and config.lr < 0.01", ["a2", "강아지"]),
    ("config.it's_a%_:1", []),
)


def test_a_condition_finds_the_runs_that_match(store: Store) -> None:
    """The same in each database; one test, since filling one takes longer than asking."""
    fill(store)
    assert {text: found(store, text) for text, _ in CONDITIONS} == dict(CONDITIONS)


def test_orders_are_the_same_everywhere_and_what_lacks_the_value_comes_last(store: Store) -> None:
    fill(store)
    assert {
        sort: found(store, "id:*", sort=sort) for sort in ("name", "metric.loss", "-metric.loss.max")
    } == {
        "name": ["a1", "a2", "b1", "강아지"],
        "metric.loss": ["a2", "a1", "강아지", "b1"],
        "-metric.loss.max": ["a1", "a2", "강아지", "b1"],
    }
    assert found(store, "id:*", sort="config.lr") == ["강아지", "a2", "a1", "b1"]  # numbers, then texts
    assert found(store, "id:*", sort=["experiment", "-id"]) == ["강아지", "b1", "a2", "a1"]
    assert found(store, "id:*", sort="-created") == ["b1", "강아지", "a2", "a1"]
    assert store.run_ids(**selection(store, sort="experiment", archived=False)) == [3, 2, 1]
    assert store.count_runs(**selection(store, "new", archived=None)) == 2
    with pytest.raises(wb.BadInput, match=r"sorted by 'metrics\.loss'"):
        selection(store, sort="metrics.loss")


def test_damaged_settings_do_not_end_the_query(store: Store) -> None:
    ids = fill(store)
    if store.is_sqlite:
        with store._writing() as connection:
            connection.exec_driver_sql("update run set config = '{broken' where id = ?", (ids["a1"],))
    assert "a2" in found(store, "config.lr < 0.01")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("config.lr <", r"column 12: expected a value.*\n.*config\.lr <\n +\^"),
        ("statsu:failed", "'statsu' is no field of a run; did you mean 'status'"),
        ("status:faild", "no status 'faild'; did you mean 'failed'"),
        ("experiment:odl", "no experiment 'odl'; did you mean 'old'"),
        ("metric.los < 1", "no run has the metric 'los'; did you mean 'metric.loss'"),
        ("config.lr < fast", "'<' takes a number, got 'fast'"),
        ("metric.loss:low", "'metric.loss' is a number"),
        ("created:soon", "'created' is a time"),
        ("created:2026-13", "'created' is a time"),
        ("status<failed", "has no order"),
        ("tag:b*", "takes a whole name"),
        ("archived:maybe", "'archived' is true or false"),
        ("config.a\\\\b:1", "a quote or a backslash"),
        ('tag:"a\\"b"', "a quote or a backslash"),
        ("a b", "."),
    ],
)
def test_what_is_no_condition_is_shown_with_what_is_meant(
    workspace: wb.Workspace, text: str, says: str
) -> None:
    fill(workspace.store)
    with pytest.raises(wb.BadInput, match=says):
        workspace.runs(where=text)


def test_a_setting_that_no_run_has_is_an_error_and_not_an_empty_list(workspace: wb.Workspace) -> None:
    fill(workspace.store)
    with pytest.raises(
        wb.BadInput, match=r"no run has the setting 'model.widht'; did you mean 'config.model.width'"
    ):
        workspace.runs(where="config.model.widht > 1")
    assert workspace.runs(where="config.lr > 1000") == []
    check_settings(workspace.store, "tag:baseline")


def test_the_workspace_chooses_counts_and_pages(workspace: wb.Workspace) -> None:
    fill(workspace.store)
    assert [run.name for run in workspace.runs(where="config.lr < 0.01 and tag:baseline")] == ["a2"]
    assert [run.name for run in workspace.runs(sort="name", limit=2)] == ["a1", "a2"]
    assert [run.name for run in workspace.runs(sort="name", limit=2, offset=2)] == ["b1"]
    assert (workspace.count_runs(), workspace.count_runs("new"), workspace.count_runs(archived=None)) == (
        3,
        1,
        4,
    )
    assert len(workspace.runs(where="  ")) == 3
    for wrong in (
        {"limit": -1},
        {"offset": -1},
        {"limit": True},
        {"archived": "yes"},
        {"where": 5},
        {"sort": [5]},
    ):
        with pytest.raises(wb.BadInput):
            workspace.runs(**wrong)


def test_the_parts_of_a_condition_are_told_apart() -> None:
    one = where.parsed("config.a.b:1 and metric.loss.best<2 or tag:x")
    assert [name for _, name in where.settings_of(one)] == ["a.b"]
    assert [name for _, name in where.metrics_of(one)] == ["loss"]
    assert where.fields_of(one) == {"config", "metric", "tag"}
