"""``workbench index``: which job it submits, and what it prints; the job itself is the adapter's."""

from __future__ import annotations

import json
from typing import Any

import pytest

import workbench as wb
from workbench import cli
from workbench.commands import index, serve


class Job:
    """A job that has succeeded."""

    id, notebook, summary = 7, "notebook.ipynb", "3 pictures"
    result = wb.Result(
        metrics={"pictures": 3},
        made={
            "index": "photos",
            "encoder": "e",
            "codes": "c",
            "skipped": [{"path": "a.jpg", "reason": "broken"}],
        },
        warnings=["a.jpg: broken"],
    )

    def wait(self, **_: Any) -> None:
        """Return at once."""


class Options(wb.Options):
    name: str
    encoder: str = "packaged"
    codes: str = "auto"


class Quick(wb.BaseAdapter):
    name = "quick"

    def options(self, task: str) -> type[wb.Options]:
        assert task == "quick_index"
        return Options

    def quick_index(self, source: str, options: Options) -> dict[str, Any]:
        return {"collection": source, **options.model_dump()}


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> list[tuple[str, dict[str, Any]]]:
    """What is submitted; nothing runs."""
    jobs: list[tuple[str, dict[str, Any]]] = []

    def submit(self: Any, kind: str, adapter: Any, options: Any) -> Job:
        jobs.append((kind, dict(options)))
        return Job()

    monkeypatch.setattr(wb.Workspace, "submit", submit)
    monkeypatch.setattr("workbench.adapter.registry.get_adapter", lambda _: Quick())
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "results"))
    return jobs


def test_it_submits_the_job_that_the_adapter_says_and_reports_what_was_left_out(
    submitted: list[tuple[str, dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["index", "photos", "--name", "photos", "--encoder", "mine", "-o", "codes=c", "--json"]
    assert cli.run(words) == 0
    wanted = {"collection": "photos", "name": "photos", "encoder": "mine", "codes": "c"}
    assert submitted == [("index_build", wanted)]
    document = json.loads(capsys.readouterr().out)
    assert document["index"] == {
        "name": "photos",
        "pictures": 3,
        "skipped": [{"path": "a.jpg", "reason": "broken"}],
    }
    assert (document["encoder"], document["codes"]) == ("e", "c")


def test_it_serves_the_page_if_asked_and_shows_no_paths_by_itself(
    submitted: list[tuple[str, dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    served: list[tuple[Any, ...]] = []
    monkeypatch.setattr(
        index, "serve_index", lambda home, name, *_, show_paths: served.append((name, show_paths)) or 0
    )
    assert cli.run(["index", "photos", "--name", "photos", "--serve"]) == 0
    assert cli.run(["index", "photos", "--name", "photos", "--serve", "--show-paths"]) == 0
    assert served == [("photos", False), ("photos", True)]
    assert "index photos: 3 pictures" in capsys.readouterr().out
    assert serve.serve_index.__kwdefaults__["show_paths"] is False


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--option", "name=other"], "differ"),
        (["--option", "colour=red"], "colour"),
    ],
)
def test_contradictions_and_unknown_options_are_refused(
    submitted: list[Any], capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    assert cli.run(["index", "photos", "--name", "photos", *more]) == 2
    assert said in capsys.readouterr().err
    assert submitted == []
