"""Somebody upgrades: a workspace, an index and checkpoints of version 0.2.0, and what of it still runs.

The workspaces in ``fixtures`` were made by that version; ``fixtures/make_workspace.py`` says how.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy
from PIL import Image

import workbench as wb
from adapters.vlm_quantization.encoding.encoder import HashEncoder
from tests.conftest import installed, workspace_in
from tests.workbench.conftest import live_server, until
from workbench import cli
from workbench.jobs import submission
from workbench.search import messages
from workbench.search.client import LOCK_NAME, SearchClient
from workbench.store import migrations

FIXTURES = Path(__file__).parent / "fixtures"

#: Texts that ``make_workspace.py`` encoded and searched with.
TEXTS = ("red circle", "파란색 별", "a square that is green", "zebra")


class Old:
    """A workspace of an old version, and what that version read from it."""

    def __init__(self, folder: Path, version: str) -> None:
        with tarfile.open(FIXTURES / f"{version}.tar.xz") as archive:
            archive.extractall(folder, filter="data")
        self.home = folder / "results"
        self.pictures = sorted((folder / "pictures").glob("**/*.png"))
        self.expected: dict[str, Any] = json.loads((folder / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=["0.2.0", "0.2.0-first"])
def old(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Old:
    return Old(tmp_path_factory.mktemp("old"), request.param)


@pytest.fixture(scope="module")
def home(old: Old, toy_package: Path) -> Iterator[wb.Workspace]:
    """The old workspace, opened by this version, which migrates it."""
    with installed(toy_package), workspace_in(old.home) as home:
        yield home


def hits(result: Any) -> list[list[Any]]:
    return [[hit.id, round(hit.score, 6), hit.distance, hit.caption] for hit in result]


# What it holds --------------------------------------------------------------------------------------------


def test_it_is_migrated(home: wb.Workspace) -> None:
    with home.store._reading() as connection:
        assert connection.execute(
            sqlalchemy.text("select version_num from alembic_version")
        ).scalars().all() == [migrations.HEAD]


def test_its_runs_are_what_they_were(old: Old, home: wb.Workspace) -> None:
    for was, run in zip(old.expected["runs"], home.runs(), strict=True):
        for name in ("id", "experiment", "name", "status", "config", "tags", "notes"):
            assert getattr(run, name) == was[name], (run.id, name)
        for metric, row in was["summary"].items():
            now = run.summary[metric]
            assert {key: repr(now[key]) for key in row} == row
            assert len(run.metric_points(metric)) == was["points"][metric]
        assert set(run.summary) == set(was["summary"])
        # The fixture was packed without the last checkpoint of the training, to stay small.
        assert [file.name for file in run.checkpoints()] == [
            name for name in was["checkpoints"] if name != "last.safetensors"
        ]
        assert [file.name for file in run.artifacts()] == was["artifacts"]
    assert Path(home.run(1).artifacts()[0]).read_text(encoding="utf-8") == "# Notes of 0\n"
    final = {row.name: row.best for row in home.compare([1, 2]).final}
    assert list(final["val/acc"]) == [True, False]


def test_its_jobs_are_what_they_were_and_the_one_in_the_queue_runs(old: Old, home: wb.Workspace) -> None:
    queued, *ended = old.expected["jobs"]
    now = {job.id: job for job in home.jobs()}
    for was in ended:
        job = now[was["id"]]
        for name in ("type", "adapter", "status", "summary", "options", "error"):
            assert getattr(job, name) == was[name], (job.id, name)
        assert (job.result.metrics if job.result else None) == was["metrics"]
    assert queued["status"] == "queued"
    done = now[queued["id"]].wait(300)
    assert (done.status, done.result.metrics) == ("succeeded", {"R@4": 0.4})
    assert now[ended[0]["id"]].retry().options["fail"] == "on purpose"


def test_its_index_has_the_same_hits(old: Old, home: wb.Workspace) -> None:
    was, searcher = old.expected["search"], home.open_search("shapes")
    for name, result in (
        *((f"text {text}", searcher.by_text(text, 5)) for text in TEXTS),
        ("cosine", searcher.by_text(TEXTS[0], 5, method="cosine")),
        ("8 bits", searcher.by_text(TEXTS[0], 5, bits=8)),
    ):
        # Since then, an item whose caption is exactly what was typed comes first; the rest is as it was.
        now = [hit for hit in hits(result) if hit[3] != TEXTS[0] or hit in was[name]]
        assert len(now) >= 4
        assert now == was[name][: len(now)], name
    assert hits(searcher.by_image(old.pictures[0].read_bytes(), 5)) == was["image"]


def test_its_checkpoint_makes_the_same_codes(old: Old, home: wb.Workspace) -> None:
    run = next(run for run in home.runs() if run.experiment == "shapes")
    encoder = HashEncoder.load(Path(run.checkpoint("refit.safetensors")))
    texts = encoder.encode_texts(list(TEXTS)).codes
    pictures = encoder.encode_images([Image.open(path) for path in old.pictures[:3]]).codes
    for codes, was in ((texts, "texts"), (pictures, "images")):
        assert [row.tobytes().hex() for row in np.asarray(codes)] == old.expected["codes"][was]


@pytest.mark.parametrize("old", ["0.2.0-first"], indirect=True)
def test_the_command_line_and_http_read_the_same(
    old: Old, home: wb.Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(*words: str) -> Any:
        assert cli.run(["--workspace", str(old.home), "--json", *words]) == 0
        return json.loads(capsys.readouterr().out)

    ids = [run["id"] for run in old.expected["runs"]]
    jobs = {job["id"]: job["status"] for job in old.expected["jobs"] if job["status"] != "queued"}
    best = old.expected["search"]["text zebra"][0][0]
    assert [run["id"] for run in command("runs")["runs"]] == ids
    assert jobs.items() <= {job["id"]: job["status"] for job in command("jobs", "list")["jobs"]}.items()
    assert command("search", "text", "zebra", "--index", "shapes")["hits"][0]["id"] == best
    with live_server(old.home, tmp_path / "state") as live:
        assert [run["id"] for run in live.get("runs").json()["runs"]] == ids
        assert jobs.items() <= {job["id"]: job["status"] for job in live.get("jobs").json()["jobs"]}.items()
        points = live.get("runs/1/metrics?name=train/loss").json()["points"]
        assert len(points) == old.expected["runs"][-1]["points"]["train/loss"]
        found = live.post("search/text", {"index": "shapes", "query": "zebra"}).json()
        assert found["hits"][0]["id"] == best


def test_an_index_of_another_format_says_how_to_go_on(tmp_path: Path) -> None:
    copy = Old(tmp_path, "0.2.0")
    manifest = copy.home / "indexes" / "shapes" / "manifest.json"
    said = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**said, "format": 99}))
    with wb.Workspace(copy.home) as workspace, pytest.raises(wb.CorruptFile) as raised:
        workspace.open_search("shapes")
    assert "uild" in f"{raised.value.message} {raised.value.hint}"


# What still runs of it ------------------------------------------------------------------------------------


def test_a_worker_of_0_2_0_goes_on_with_runners_by_their_old_name(tmp_path: Path) -> None:
    """Its orders, as that version wrote them, and the reports that it reads."""
    page = tmp_path / "page.ipynb"
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "execution_count": None, "outputs": []}
    cells = [{**cell, "source": "print('ran')"}, {**cell, "id": "b", "source": "raise ValueError('no')"}]
    page.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}))
    (tmp_path / "runtime").mkdir()
    order = {
        "source": str(page),
        "output": str(tmp_path / "out.ipynb"),
        "parameters": {},
        "log": str(tmp_path / "log.txt"),
        "cwd": str(tmp_path),
        "runtime": str(tmp_path / "runtime"),
        "environment": {},
        "watch_bars": True,
    }
    read_end, write_end = os.pipe()
    done = subprocess.run(
        [sys.executable, "-m", "workbench.runner", str(write_end)],
        input=json.dumps(order).encode() + b"\n",
        pass_fds=(write_end,),
        timeout=300,
        check=False,
    )
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        reports = [json.loads(line) for line in pipe.read().splitlines()]
    assert done.returncode == 1
    assert {"cells": True} in reports
    (failure,) = [report["failure"] for report in reports if "failure" in report]
    assert (failure["type"], failure["message"]) == ("ValueError", "no")
    progress = [report["progress"] for report in reports if "progress" in report]
    assert progress
    assert {"cell", "total", "done", "bars"} <= set(progress[0])
    assert "ran" in (tmp_path / "out.ipynb").read_text()


def test_a_worker_is_started_by_its_old_name(workspace: wb.Workspace, toy: wb.BaseAdapter) -> None:
    """As a server of 0.2.0 that still runs does it."""
    job = submission.submit(workspace, "eval", "toy", {"k": 3}, start_worker=False)
    command = [sys.executable, "-m", "workbench.background", "--workspace", str(workspace.path)]
    with subprocess.Popen(command, env={**os.environ, "WORKBENCH_WORKER_IDLE": "0.5"}) as worker:
        until(lambda: job.refresh().done)
        assert job.result.metrics == {"R@3": 0.3}
        assert worker.wait(300) == 0


@pytest.fixture(scope="module")
def last(tmp_path_factory: pytest.TempPathFactory) -> Old:
    """The workspace of the last commit of 0.2.0."""
    return Old(tmp_path_factory.mktemp("last"), "0.2.0")


def test_a_search_service_is_started_by_its_old_name(last: Old) -> None:
    old = last
    command = [sys.executable, "-m", "workbench.search_service", "--workspace", str(old.home)]
    with subprocess.Popen(command) as service:
        try:
            lock = old.home / LOCK_NAME
            until(lambda: lock.is_file() and str(service.pid) in lock.read_text())
            client = SearchClient(old.home)
            answer = client.ask({"op": "search", "index": "shapes", "by": "text", "text": TEXTS[3], "k": 1})
            assert answer["hits"][0]["id"] == old.expected["search"][f"text {TEXTS[3]}"][0][0]
            assert json.loads((old.home / LOCK_NAME).read_text())["pid"] == service.pid
            # What a client of 0.2.0 sends to have options checked: without the workspace.
            question = {"op": "check", "adapter": "vlm_quantization", "type": "eval", "options": {"run": 99}}
            assert client.ask(question)["options"]["run"] == 99
        finally:
            service.terminate()
        assert service.wait(300) == 0


def test_a_search_service_of_0_2_0_gets_holders_by_their_old_name(last: Old) -> None:
    old = last
    ours, theirs = socket.socketpair()
    module = ["-m", "workbench.search_service.holder", "--socket", str(theirs.fileno())]
    command = [sys.executable, *module, "--index", str(old.home / "indexes"), "shapes"]
    with ours, theirs, subprocess.Popen(command, pass_fds=(theirs.fileno(),)) as holder:
        theirs.close()
        ours.settimeout(300)
        for request in ({"op": "open"}, {"op": "search", "by": "text", "text": TEXTS[3], "k": 1}):
            ours.sendall(messages.framed(json.dumps(request).encode()))
            answer = json.loads(messages.receive(ours, messages.ANSWER_BYTES))
            assert "ok" in answer, answer
        assert answer["ok"]["hits"][0]["id"] == old.expected["search"][f"text {TEXTS[3]}"][0][0]
        ours.close()
        assert holder.wait(300) == 0


def test_a_keeper_is_started_by_its_old_name(tmp_path: Path) -> None:
    """A worker that says goodbye leaves nothing to do: the keeper ends, and restarts nobody."""
    restart = [sys.executable, "-c", f"open({str(tmp_path / 'restarted')!r}, 'w')"]
    command = [sys.executable, "-m", "workbench.keeper", "inf", *restart]
    done = subprocess.run(command, input=b"+token\n~\n-token\n.\n", timeout=300, check=False)
    assert done.returncode == 0
    assert not (tmp_path / "restarted").exists()


FORMER = (
    "workbench._former.background",
    "workbench._former.keeper",
    "workbench._former.runner",
    "workbench._former.search_service.__main__",
    "workbench._former.search_service.holder",
)


@pytest.mark.parametrize("module", FORMER)
def test_the_old_names_stand_for_modules_that_can_be_started(module: str) -> None:
    spec = importlib.util.find_spec(module.replace("._former", ""))
    assert spec is not None
    assert spec.origin is not None
    named = re.findall(r'run_module\("([\w.]+)"', Path(spec.origin).read_text(encoding="utf-8"))
    assert len(named) == 1
    target = importlib.util.find_spec(named[0])
    assert target is not None
    assert target.origin is not None
    assert '__name__ == "__main__"' in Path(target.origin).read_text(encoding="utf-8")
