"""``workbench runs|jobs|experiments|indexes rename|archive|restore|delete``, in this process."""

from __future__ import annotations

import json
from typing import Any

import pytest

import workbench as wb
from tests.workbench.commands.test_commands import misfits
from tests.workbench.conftest import job_row, make_index
from workbench import cli
from workbench.commands import order
from workbench.commands.documents import DOCUMENTS


class Cli:
    """The command line, in this process."""

    def __init__(self, home: wb.Workspace, capture: pytest.CaptureFixture[str]) -> None:
        self.home, self.capture, self.err = home, capture, ""

    def __call__(self, *words: str, code: int = 0) -> str:
        assert cli.run([*words, "--workspace", str(self.home.path)]) == code
        out, self.err = self.capture.readouterr()
        return out

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "--json"))


@pytest.fixture
def command(workspace: wb.Workspace, toy: wb.BaseAdapter, capsys: pytest.CaptureFixture[str]) -> Cli:
    for lr, name in ((0.1, "a"), (0.001, "b")):
        with workspace.start_run("e", name, config={"lr": lr}, tags=[name], seed=1) as run:
            run.log({"loss": lr * 10})
            run.log_text("words", "hi")
    make_index(workspace.path, "photos")
    job_row(workspace, "succeeded")
    return Cli(workspace, capsys)


def test_runs_are_chosen_sorted_and_shown(command: Cli) -> None:
    assert [run["name"] for run in command.json("runs", "--where", "config.lr < 0.01")["runs"]] == ["b"]
    assert [run["id"] for run in command.json("runs", "--sort=-metric.loss", "--limit", "1")["runs"]] == [1]
    assert "No matching runs" in command("runs", "--where", "tag:c")
    shown = command("runs", "show", "1")
    for text in ("1 a", "succeeded", '"lr": 0.1', "loss", "seed", "media"):
        assert text in shown
    document = command.json("runs", "show", "1")
    assert misfits(DOCUMENTS["runs show"], document) == []
    assert (document["tags"], len(document["media"])) == ({"a": True}, 1)
    command("runs", "--where", "config.lr <", code=2)
    assert "column 12" in command.err
    assert "^" in command.err


@pytest.mark.parametrize(
    ("many", "key", "new"),
    [("runs", "1", "x y"), ("jobs", "1", "night"), ("experiments", "e", "f"), ("indexes", "photos", "cats")],
)
def test_each_noun_is_renamed_archived_restored_and_deleted(
    command: Cli, many: str, key: str, new: str
) -> None:
    document = command.json(many, "rename", key, new)
    assert misfits(DOCUMENTS[f"{many} rename"], document) == []
    key = key if key == "1" else new
    document = command.json(many, "archive", key)
    assert (misfits(DOCUMENTS[f"{many} archive"], document), document) == ([], {"archived": [key]})
    listing = ("runs",) if many == "runs" else (many, "list")
    words = new if many == "runs" else key
    assert words not in {str(one.get("name") or one["id"]) for one in command.json(*listing)[many]}
    assert command.json(*listing, "--archived")[many]
    document = command.json(many, "restore", key)
    assert misfits(DOCUMENTS[f"{many} restore"], document) == []
    assert command.json(*listing)[many]
    assert f"workbench {many} restore" in (command(many, "archive", key), command.err)[1]
    document = command.json(many, "delete", key, "--yes")
    assert misfits(DOCUMENTS[f"{many} delete"], document) == []
    assert document["deleted"]
    command(many, "delete", key, "--yes", code=2)  # it is gone
    assert "error:" in command.err


def test_deleting_asks_first(command: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    command("runs", "delete", "1", code=2)  # nobody can be asked
    assert "--yes" in command.err
    monkeypatch.setattr(order.sys.stdin, "isatty", lambda: True)
    for answer, code in (("n\n", 1), ("y\n", 0)):
        monkeypatch.setattr(order.sys.stdin, "readline", lambda answer=answer: answer)
        command("runs", "delete", "1", "2", code=code)
    assert "Delete runs 1, 2 for good?" in command.err
    assert command.home.runs(archived=None) == []
