"""An MLflow folder with bad files: the rest is brought, and each bad file is named with the reason."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

import workbench as wb
from workbench import cli
from workbench.runs.imports import mlflow_files

GOOD, OTHER = "a" * 32, "b" * 32


def add_run(root: Path, run_id: str = OTHER, **meta: object) -> Path:
    """Write a run as MLflow's file store does, in experiment 1."""
    experiment = root / "1"
    folder = experiment / run_id
    for name in ("metrics", "params", "tags"):
        (folder / name).mkdir(parents=True)
    (experiment / "meta.yaml").write_text("experiment_id: '1'\nlifecycle_stage: active\nname: tries\n")
    about = {
        "run_id": run_id,
        "run_name": run_id[0],
        "status": 3,
        "start_time": 1_700_000_000_000,
        "end_time": 1_700_000_001_000,
        "lifecycle_stage": "active",
        **meta,
    }
    (folder / "meta.yaml").write_text(
        "".join(f"{key}: {json.dumps(value)}\n" for key, value in about.items())
    )
    (folder / "metrics" / "loss").write_text("1700000000000 0.5 0\n1700000000001 0.25 1\n")
    (folder / "params" / "lr").write_text("0.1")
    (folder / "tags" / "team").write_text("search")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with one good run, beside which tests put another."""
    root = tmp_path / "mlruns"
    add_run(root, GOOD)
    return root


def bomb() -> str:
    """Seven lines that say ten million things."""
    levels = [f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]" for before, name in pairwise("abcdefg")]
    return "\n".join([f"run_id: {OTHER}", "a: &a x", *levels]) + "\n"


def meta(text: str | bytes) -> Callable[[Path], object]:
    data = text.encode() if isinstance(text, str) else text
    return lambda run: (run / "meta.yaml").write_bytes(data)


def lines(text: str | bytes) -> Callable[[Path], object]:
    data = text.encode() if isinstance(text, str) else text
    return lambda run: (run / "metrics" / "loss").write_bytes(data)


def param(data: bytes) -> Callable[[Path], object]:
    return lambda run: (run / "params" / "p").write_bytes(data)


def linked(target: str) -> Callable[[Path], object]:
    return lambda run: (run / "params" / "p").symlink_to(target)


def no_folder(run: Path) -> None:
    (run / "tags").rename(run / "old")
    (run / "tags").write_text("")


#: What is wrong: how it is made, how it is named, and whether the run is brought without it.
BAD: list[tuple[str, Callable[[Path], object], str, bool]] = [
    ("an empty meta", meta(""), "/meta.yaml: it is empty, and with it the run", False),
    ("no meta", lambda run: (run / "meta.yaml").unlink(), "/meta.yaml: No such file or directory", False),
    ("a broken meta", meta(":::\n\t- "), "/meta.yaml: it is not valid YAML", False),
    ("a meta that is a list", meta("[1, 2]"), "/meta.yaml: it does not describe", False),
    ("a meta in latin-1", meta("run_name: caf\xe9".encode("latin-1")), "/meta.yaml: it is not UTF-8", False),
    ("a YAML bomb", meta(bomb()), "/meta.yaml: it uses YAML aliases", False),
    ("a deep YAML", meta("a: " + "[" * 30_000), "/meta.yaml: it is nested more than 10 levels", False),
    ("a huge meta", meta(b"#" * 70_000), "/meta.yaml: it has more than 65,536 bytes", False),
    ("another run's meta", meta(f"run_id: {GOOD}\n"), "which is not its folder's name", False),
    ("a YAML tag", meta("a: !!python/object/apply:os.getpid []"), "/meta.yaml: it is not valid YAML", False),
    ("a number of no YAML", meta("run_id: " + "1" * 5000), "/meta.yaml: it", False),
    ("a half-written line", lines("1700000000000 0.5 0\n17000"), "line 2: '17000' is not a metric", True),
    ("a float step", lines("1700000000000 0.5 0\n1 0.5 1.0\n"), "line 2: '1 0.5 1.0' is not", True),
    ("a step of 40 digits", lines(f"1700000000000 0.5 0\n1 1 {'9' * 40}\n"), "line 2: '1 1 99", True),
    ("a long line", lines(b"1700000000000 0.5 0\n" + b"1 " * 100_000), "line 2: '", True),
    ("two bad lines", lines("x\n1700000000000 0.5 0\ny\n"), "line 1: 'x' is not a metric (time, ", True),
    ("latin-1 in a metric", lines(b"caf\xe9\n1700000000000 0.5 0\n"), "line 1: 'caf�'", True),
    ("a param in latin-1", param(b"caf\xe9"), "/params/p: it is not UTF-8", True),
    ("a huge param", param(b"x" * (2**20 + 1)), "/params/p: it has more than 1,048,576 bytes", True),
    ("a pipe", lambda run: os.mkfifo(run / "params" / "p"), "/params/p: it is not a file", True),
    ("a dangling link", linked("/nonexistent"), "/params/p: No such file", True),
    ("a loop of links", linked("p"), "/params/p: ", True),
    ("tags that are a file", no_folder, "/tags: it is not a folder", True),
]  # fmt: skip


@pytest.mark.parametrize(
    ("spoil", "said", "brought"), [case[1:] for case in BAD], ids=[case[0] for case in BAD]
)
def test_one_bad_file_costs_only_itself_and_is_named(
    workspace: wb.Workspace, store: Path, spoil: Callable[[Path], object], said: str, brought: bool
) -> None:
    spoil(add_run(store))
    imported = workspace.import_mlflow(str(store))
    (named,) = imported.passed_over
    assert named.startswith(f"1/{OTHER}/")
    assert said in named
    runs = {run.name: run for run in workspace.runs()}
    assert set(runs) == ({"a", "b"} if brought else {"a"})
    assert [value for _, _, value in runs["a"].metric_points("loss")] == [0.5, 0.25]
    if brought:
        assert runs["b"].metric_points("loss")[0] == (0, 1_700_000_000.0, 0.5)
        assert runs["b"].config["lr"] == 0.1
        (kept,) = runs["b"].environment["mlflow"]["not_imported"]
        assert named == f"1/{OTHER}/{kept}"
    again = workspace.import_mlflow(str(store))
    assert (again.new, again.changed, again.points) == (0, 0, 0)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("status", [1], "the status [1]"),
        ("status", 99, "the status 99"),
        ("status", {"a": 1}, "the status {'a': 1}"),
        ("start_time", "abc", "start_time 'abc', which is not a time"),
        ("start_time", -5, "start_time -5"),
        ("start_time", [1], "start_time [1]"),
        ("start_time", True, "start_time True"),
        ("start_time", 10**30, "start_time 1000"),
        ("end_time", float("nan"), "end_time nan"),
        ("run_name", ["a"], "the run's name"),
    ],
)
def test_a_field_that_says_nothing_is_named_and_the_run_is_listed(
    workspace: wb.Workspace,
    store: Path,
    capsys: pytest.CaptureFixture[str],
    key: str,
    value: object,
    said: str,
) -> None:
    run = add_run(store, **{key: value})
    if value != value:
        text = (run / "meta.yaml").read_text()
        (run / "meta.yaml").write_text(text.replace("NaN", ".nan"))
    imported = workspace.import_mlflow(str(store))
    (named,) = imported.passed_over
    assert named.startswith(f"1/{OTHER}/meta.yaml: {said}")
    (found,) = [run for run in workspace.runs() if run.origin == f"mlflow:{OTHER}"]
    assert found.metric_points("loss")
    assert (found.created_at is None) == (key == "start_time")
    assert cli.run(["--workspace", str(workspace.path), "runs", "--json"]) == 0
    listed = {run["id"]: run for run in json.loads(capsys.readouterr().out)["runs"]}
    assert (listed[found.id]["created_at"] is None) == (key == "start_time")


@pytest.mark.parametrize("name", ["params/leak", "tags/leak", "metrics/leak", "meta.yaml"])
def test_no_link_out_of_a_run_is_followed(
    workspace: wb.Workspace, store: Path, tmp_path: Path, name: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"run_id: {OTHER}\n# swordfish\n")
    run = add_run(store)
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(secret)
    imported = workspace.import_mlflow(str(store))
    assert any(f"{name}: it is a link out of the run's folder" in said for said in imported.passed_over)
    rows = [(run.config, run.tags, run.environment, run.name) for run in workspace.runs()]
    assert "swordfish" not in repr(rows)


def test_no_linked_folder_is_read_as_parameters(workspace: wb.Workspace, store: Path, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("swordfish")
    run = add_run(store)
    (run / "params" / "lr").unlink()
    (run / "params").rmdir()
    (run / "params").symlink_to(tmp_path / "etc")
    (run / "tags" / "deep").symlink_to(tmp_path / "etc")
    imported = workspace.import_mlflow(str(store))
    assert {said.partition(OTHER)[2] for said in imported.passed_over} == {
        "/params: it is a link to a folder",
        "/tags/deep: it is a link to a folder",
    }
    assert "swordfish" not in repr([(run.config, run.tags) for run in workspace.runs()])


def test_a_link_inside_a_run_is_read(workspace: wb.Workspace, store: Path) -> None:
    run = add_run(store)
    (run / "params" / "same").symlink_to(run / "params" / "lr")
    imported = workspace.import_mlflow(str(store))
    assert imported.passed_over == {}
    assert next(run for run in workspace.runs() if run.name == "b").config == {"lr": 0.1, "same": 0.1}


def test_times_in_a_finer_unit_are_converted_with_a_note(workspace: wb.Workspace, store: Path) -> None:
    run = add_run(store, start_time=1_700_000_000_000_000)
    (run / "metrics" / "loss").write_text("1700000000000000 0.5 0\nnan 1 1\n1e300 1 2\n1700000000001 0.5 3\n")
    imported = workspace.import_mlflow(str(store))
    (found,) = [run for run in workspace.runs() if run.name == "b"]
    assert found.created_at is not None
    assert found.created_at.timestamp() == 1_700_000_000
    assert [at for _, at, _ in found.metric_points("loss")] == [1.7e9, 1.7e9, 1.7e9, 1_700_000_000.001]
    assert len(imported.notes) == 3
    assert imported.passed_over == {}


def test_the_last_line_of_a_running_run_waits_until_it_is_whole(workspace: wb.Workspace, store: Path) -> None:
    run = add_run(store, status=1, end_time=None)
    whole = "1700000000000 0.5 0\n1700000000001 0.41234 12"
    (run / "metrics" / "loss").write_text(whole[:-1])
    imported = workspace.import_mlflow(str(store))
    assert list(imported.passed_over) == [f"1/{OTHER}/metrics/loss: line 2 is still being written"]
    (run / "metrics" / "loss").write_text(whole + "\n")
    assert workspace.import_mlflow(str(store)).points == 1
    (found,) = [run for run in workspace.runs() if run.name == "b"]
    assert [step for step, _, _ in found.metric_points("loss")] == [0, 12]
    assert "not_imported" not in found.environment["mlflow"]


def test_a_broken_experiment_costs_its_runs_and_says_how_many(workspace: wb.Workspace, store: Path) -> None:
    other = store / "2"
    (other / OTHER / "metrics").mkdir(parents=True)
    (other / "meta.yaml").write_text("")
    (store / "empty").mkdir()
    assert workspace.import_mlflow(str(store)).passed_over == {
        "2/meta.yaml: it is empty, and with it 1 run": 1
    }
    assert [run.name for run in workspace.runs()] == ["a"]
    (other / "meta.yaml").write_text("name: [1]\n")
    (other / OTHER / "meta.yaml").write_text(f"run_id: {OTHER}\n")
    assert "is called 2" in workspace.import_mlflow(str(store)).notes[0]
    assert workspace.experiments() == ["2", "tries"]


def test_names_that_are_not_utf8_are_escaped(workspace: wb.Workspace, store: Path) -> None:
    run = add_run(store)
    for kind, text in (("params", b"1"), ("metrics", b"1700000000000 0.5 0\n"), ("tags", b"x")):
        with open(os.fsencode(run / kind) + b"/caf\xe9", "wb") as file:  # noqa: PTH123
            file.write(text)
    (run / "params" / "\x1b[2J").write_text("x")
    found = store.rename(store.parent / os.fsdecode(b"\xe9"))
    assert workspace.import_mlflow(str(found)).passed_over == {}
    (brought,) = [run for run in workspace.runs() if run.name == "b"]
    assert brought.config["caf\\udce9"] == 1
    assert brought.tags["caf\\udce9"] == "x"
    assert len(brought.metric_points("caf\\udce9")) == 1


def test_many_and_large_texts_have_limits(
    workspace: wb.Workspace, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_files, "MOST_ENTRIES", 4)
    monkeypatch.setattr(mlflow_files, "TEXTS_BYTES", 2000)
    monkeypatch.setattr(mlflow_files, "METRIC_BYTES", 100)
    run = add_run(store)
    for number in range(5):
        (run / "params" / f"p{number}").write_text("x" * 900)
    (run / "metrics" / "big").write_text("1700000000000 0.5 0\n" * 6)
    named = [said.partition(f"{OTHER}/")[2] for said in workspace.import_mlflow(str(store)).passed_over]
    assert named == [
        "params/p2: it has more than 197 bytes",
        "params after the first 4",
        "metrics/big: it has more than 100 bytes",
    ]
    (brought,) = [run for run in workspace.runs() if run.name == "b"]
    assert set(brought.config) == {"lr", "p0", "p1"}
