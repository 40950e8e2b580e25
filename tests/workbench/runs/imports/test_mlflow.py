"""Runs from stores that MLflow wrote, compared with what MLflow reads from them."""

import json
import math
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import workbench as wb
from workbench import cli
from workbench.runs.imports.mlflow_terms import parameter_value

#: Write runs into a store, and print what MLflow reads from it.
_WRITE = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param

uri, how = sys.argv[1:]
client = MlflowClient(tracking_uri=uri)

def experiment(name):
    found = client.get_experiment_by_name(name)
    return found.experiment_id if found else client.create_experiment(name)

if how == "write":
    home = experiment("실험 A")
    one = client.create_run(home, run_name="첫째", tags={"team": "검색", "mlflow.note.content": "my notes",
        "mlflow.source.git.commit": "a" * 40, "mlflow.source.git.branch": "main"}).info.run_id
    params = {"lr": 0.001, "layers": [1, 2], "deep.er": "x", "n": 3, "id": "007", "on": True, "off": None}
    for name, value in params.items():
        client.log_param(one, name, value)
    for at, step in enumerate((0, 1, 2, 1, 3)):  # a step that goes back
        client.log_metric(one, "val/acc", step / 10, timestamp=1_700_000_000_000 + at, step=step)
    client.log_metric(one, "odd", float("nan"), step=1, timestamp=1_700_000_000_001)
    client.log_metric(one, "odd", float("inf"), step=2, timestamp=1_700_000_000_002)
    client.log_metric(one, "odd", float("-inf"), step=-3, timestamp=1_700_000_000_003)
    many = [Metric("loss", 1 / (1 + at), 1_700_000_000_000 + at, at) for at in range(1500)]
    for at in range(0, 1500, 500):
        client.log_batch(one, metrics=many[at : at + 500])
    client.set_terminated(one, "FINISHED")
    for status in ("FAILED", "KILLED", "RUNNING"):
        other = client.create_run(home, run_name=status).info.run_id
        client.log_metric(other, "m", 1.0, step=0)
        if status != "RUNNING":
            client.set_terminated(other, status)
    gone = client.create_run(home, run_name="gone").info.run_id
    client.delete_run(gone)
    client.create_run(experiment("empty one"), run_name="nothing")
elif how == "grow":
    runs = client.search_runs([experiment("실험 A")], "attributes.run_name = 'RUNNING'")
    client.log_metric(runs[0].info.run_id, "m", 2.0, step=1)
    client.log_metric(runs[0].info.run_id, "new", 3.0, step=1)
    client.set_terminated(runs[0].info.run_id, "FINISHED")

out = []
for found in client.search_experiments():
    for run in client.search_runs([found.experiment_id]):
        about, data = run.info, run.data
        history = {name: client.get_metric_history(about.run_id, name) for name in data.metrics}
        out.append({
            "id": about.run_id, "name": about.run_name, "status": about.status, "experiment": found.name,
            "start": about.start_time, "end": about.end_time, "params": data.params, "tags": data.tags,
            "metrics": {
                name: [[m.step, m.timestamp, repr(m.value)] for m in points]
                for name, points in history.items()
            },
        })
print(json.dumps(out))
"""


def ask_mlflow(uri: str, how: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-c", _WRITE, uri, how],
        env={**os.environ, "MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    recorded: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return recorded


@pytest.fixture(scope="module", params=["database", "files"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A store of each kind, and what MLflow reads from it."""
    folder = tmp_path_factory.mktemp("mlflow 강")
    if request.param == "database":
        path, uri = folder / "mlflow.db", f"sqlite:///{folder / 'mlflow.db'}"
    else:
        path, uri = folder / "mlruns", (folder / "mlruns").as_uri()
    return path, uri, ask_mlflow(uri, "write")


_STATUS = {"FINISHED": "succeeded", "FAILED": "failed", "KILLED": "cancelled", "RUNNING": "running"}


def value_of(text: str) -> float:
    """MLflow's databases store the largest float instead of infinity."""
    value = float(text)
    return math.copysign(math.inf, value) if abs(value) == sys.float_info.max else value


def check(home: wb.Workspace, recorded: list[dict[str, Any]]) -> None:
    """Check that exactly the data that MLflow reads was imported."""
    runs = {run.origin: run for run in home.runs()}
    assert set(runs) == {f"mlflow:{one['id']}" for one in recorded}
    for one in recorded:
        run = runs[f"mlflow:{one['id']}"]
        assert (run.name, run.experiment, run.status) == (
            one["name"],
            one["experiment"],
            _STATUS[one["status"]],
        )
        assert run.created_at.timestamp() == pytest.approx(one["start"] / 1000, abs=1e-6)
        if one["end"] is not None:
            assert run.finished_at is not None
            assert run.finished_at.timestamp() == pytest.approx(one["end"] / 1000, abs=1e-6)
        assert {name: str(value) for name, value in run.config.items()} == one["params"]
        system = {name: value for name, value in one["tags"].items() if name.startswith("mlflow.")}
        assert run.environment["mlflow"]["tags"] == system
        assert run.tags == {name: value for name, value in one["tags"].items() if name not in system}
        assert set(run.summary) == set(one["metrics"])
        for name, history in one["metrics"].items():
            points = [(step, round(at * 1000), repr(value)) for step, at, value in run.metric_points(name)]
            expected = [(step, at, repr(value_of(text))) for step, at, text in history]
            assert Counter(points) == Counter(expected)


def test_everything_comes_and_nothing_twice_and_what_grew_is_continued(
    written: Any, workspace: wb.Workspace
) -> None:
    path, uri, recorded = written
    before = {file: file.stat().st_mtime_ns for file in path.parent.rglob("*") if file.is_file()}
    seen: list[tuple[int, int, int]] = []
    brought = workspace.import_mlflow(uri, lambda *progress: seen.append(progress))
    assert (brought.new, brought.changed, brought.unchanged) == (len(recorded), 0, 0)
    points = sum(len(history) for one in recorded for history in one["metrics"].values())
    assert brought.points == points
    assert brought.passed_over == {"deleted runs": 1}
    assert seen[0] == (0, len(recorded), 0)
    assert seen[-1] == (len(recorded), len(recorded), points)
    check(workspace, recorded)

    first = next(run for run in workspace.runs() if run.name == "첫째")
    assert first.config == {
        "lr": 0.001,
        "layers": "[1, 2]",
        "deep.er": "x",
        "n": 3,
        "id": "007",
        "on": True,
        "off": None,
    }
    assert (first.notes, first.git["commit"], first.git["branch"]) == ("my notes", "a" * 40, "main")
    assert [step for step, _, _ in first.metric_points("val/acc")] == [0, 1, 2, 1, 3]
    assert first.outcome["metrics"]["loss"]["count"] == 1500
    assert {file: file.stat().st_mtime_ns for file in path.parent.rglob("*") if file.is_file()} == before

    # Importing again, by path: nothing is new, and local changes are kept.
    first.annotate(notes="mine", tags={"own": 1})
    again = workspace.import_mlflow(str(path))
    assert (again.new, again.unchanged, again.points) == (0, len(recorded), 0)
    assert again.run_ids == brought.run_ids
    assert workspace.run(first.id).notes == "mine"
    assert workspace.run(first.id).tags == {"team": "검색", "own": 1}
    workspace.run(first.id).annotate(tags={"own": None})

    grown = ask_mlflow(uri, "grow")
    more = workspace.import_mlflow(str(path.parent))
    assert (more.new, more.changed, more.unchanged, more.points) == (0, 1, len(recorded) - 1, 2)
    check(workspace, grown)


def test_a_server_is_asked_through_its_client_and_says_the_same(
    written: Any, workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The client reads the store directly instead of a server.
    _, uri, _ = written
    program = (
        "import sys, warnings; warnings.simplefilter('ignore')\n"
        "import workbench as wb\nfrom workbench.runs.imports import bring, mlflow\n"
        "from workbench.runs.imports.report import Report\nreport = Report()\n"
        "home = wb.Workspace(sys.argv[1])\n"
        "print(bring(home.store, list(mlflow._from_server(sys.argv[2], report)), report).new)"
    )
    subprocess.run(
        [sys.executable, "-c", program, str(workspace.path), uri],
        env={**os.environ, "MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true"},
        check=True,
        capture_output=True,
    )
    check(workspace, ask_mlflow(uri, "read"))
    ids = {run.origin: run.id for run in workspace.runs()}
    direct = workspace.import_mlflow(uri)  # both ways read the same: nothing is new
    assert (direct.new, direct.points) == (0, 0)
    assert {run.origin: run.id for run in workspace.runs()} == ids


def test_a_server_without_the_client_names_the_extra(
    workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(wb.MissingExtra) as raised:
        workspace.import_mlflow("https://mlflow.example")
    assert "[mlflow]" in raised.value.hint


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("{}/nothing.db", "no MLflow store"),
        ("sqlite:///{}/nothing.db", "no MLflow store"),
        ("{}", "neither mlflow.db"),
        ("file://{}/nothing", "no MLflow store"),
        ("{}/other.db", "is not an MLflow database"),
        ("nonsense://x", "is not the URL"),
    ],
)
def test_what_is_no_store_is_refused_with_what_may_be_given(
    workspace: wb.Workspace, tmp_path: Path, source: str, says: str
) -> None:
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("create table t (x)")
    other.close()
    with pytest.raises(wb.BadInput, match=says) as raised:
        workspace.import_mlflow(source.format(tmp_path))
    assert "mlruns" in raised.value.hint
    assert not (tmp_path / "nothing.db").exists()
    assert workspace.runs() == []


def make_database(path: Path, **run: object) -> None:
    """Write a database with the tables of MLflow's that are read, one run, and points of every kind."""
    row = {"name": "odd", "status": "FINISHED", "start": 1_700_000_000_000, "end": 1_700_000_001_000, **run}
    with sqlite3.connect(path) as store:
        store.executescript("""
            create table experiments (experiment_id, name, lifecycle_stage);
            create table runs (run_uuid, name, status, start_time, end_time, user_id, artifact_uri,
                               experiment_id, lifecycle_stage);
            create table metrics (run_uuid, key, step, timestamp, value, is_nan);
            create table params (run_uuid, key, value);
            create table tags (run_uuid, key, value);
            insert into experiments values (1, 'tries', 'active');
        """)
        values = ("r1", row["name"], row["status"], row["start"], row["end"], "me", "x", 1, "active")
        store.execute("insert into runs values (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
        points = [
            (0, 1_700_000_000_000, 0.5),
            ("x", 1, 1.0),
            (1, 1, None),
            (2**62 * 1.0, 1, 1.0),
            (2, "y", 1.0),
        ]
        store.executemany("insert into metrics values ('r1', 'm', ?, ?, ?, 0)", points)
        store.execute("insert into metrics values ('r1', 'm', 3, 1e300, 7, 0)")
        store.execute("insert into params values ('r1', 'p', cast(x'636166e9' as text))")
    store.close()


@pytest.mark.parametrize(
    ("column", "value"), [("start", "abc"), ("end", 1e300), ("status", 7), ("name", None)]
)
def test_odd_values_in_a_database_cost_only_themselves(
    workspace: wb.Workspace, tmp_path: Path, column: str, value: object
) -> None:
    make_database(tmp_path / "mlflow.db", **{column: value})
    imported = workspace.import_mlflow(str(tmp_path))
    (run,) = workspace.runs()
    assert [(step, at, value) for step, at, value in run.metric_points("m")] == [
        (0, 1.7e9, 0.5),
        (2**62, 0.001, 1.0),
        (3, 0.001, 7.0),
    ]
    assert run.config == {"p": "caf\\xe9"}
    assert (run.created_at is None) == (column == "start")
    named = list(imported.passed_over)
    assert named[-1] == "run r1, metric m: 3 points are not numbers (such as ('x', 1, 1.0))"
    assert len(named) == 1 + (column != "name")
    assert "1 times are invalid" in imported.notes[0]


def test_a_database_that_breaks_half_way_leaves_a_run_that_says_so(
    workspace: wb.Workspace, tmp_path: Path
) -> None:
    make_database(tmp_path / "mlflow.db")
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        store.execute("alter table metrics rename column value to worth")
    store.close()
    with pytest.raises(wb.StoreError, match="MLflow's database cannot be read"):
        workspace.import_mlflow(str(tmp_path))
    (run,) = workspace.runs()
    assert run.status == "lost"
    assert run.error is not None
    assert "import" in run.error["message"].lower()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-2", -2),
        ("0.5", 0.5),
        ("1e-05", 1e-05),
        ("True", True),
        ("None", None),
        *((text, text) for text in ("007", "1_000", "1e5", "nan", "inf", " 3", "", "true", "٣")),
    ],
)
def test_a_parameter_is_a_number_only_where_its_text_is_just_that(text: str, value: object) -> None:
    found = parameter_value(text)
    assert (found, type(found)) == (value, type(value))


def test_the_command_line_imports_and_says_what_came(
    written: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _, _ = written
    home = str(tmp_path / "home")
    assert cli.run(["--workspace", home, "import", "mlflow", str(path), "--json"]) == 0
    recorded = json.loads(capsys.readouterr().out)
    assert recorded["new"] == 5
    assert len(recorded["run_ids"]) == 5
    assert cli.run(["--workspace", home, "import", "mlflow", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "0 new, 0 continued, 5 unchanged" in printed
    assert "deleted runs (1)" in printed
    assert cli.run(["--workspace", home, "import", "mlflow", str(tmp_path / "nothing")]) == 2
    assert "no MLflow store" in capsys.readouterr().err
    assert cli.run(["--workspace", home, "runs"]) == 0
    assert "my notes" in capsys.readouterr().out
