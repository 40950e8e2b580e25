"""``workbench notebooks sync``."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

import workbench as wb
from tests.workbench.commands.test_commands import misfits
from workbench import cli
from workbench.commands.documents import DOCUMENTS
from workbench.notebooks.typed_options import is_in_step


@pytest.fixture
def own(toy: wb.BaseAdapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The toy's own notebook of an evaluation, with an empty parameters cell."""
    path = tmp_path / "own.ipynb"
    cell = nbformat.v4.new_code_cell("", metadata={"tags": ["parameters"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    monkeypatch.setattr(type(toy), "notebooks", lambda _: {"eval": path})
    return path


def test_it_writes_what_is_out_of_step(
    own: Path, toy: wb.BaseAdapter, capsys: pytest.CaptureFixture[str]
) -> None:
    before = own.read_bytes()
    assert cli.run(["notebooks", "sync", "toy", "--check"]) == 1
    assert f"eval: out of step ({own})" in capsys.readouterr().out
    assert own.read_bytes() == before
    assert cli.run(["notebooks", "sync", "toy", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert misfits(DOCUMENTS["notebooks sync"], document) == []
    assert document["notebooks"] == [{"type": "eval", "path": str(own), "changed": True}]
    assert is_in_step(own, toy.options("eval"), "toy")
    assert cli.run(["notebooks", "sync", "toy", "--check"]) == 0
    assert "eval: in step" in capsys.readouterr().out


def test_an_adapter_without_notebooks_is_told_so(
    toy: wb.BaseAdapter, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["notebooks", "sync", "toy"]) == 2
    assert "adapter 'toy' has no job notebooks of its own" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("notebooks", "says"),
    [
        ({"eval": "own.ipynb"}, "its notebook must be a pathlib.Path, got 'own.ipynb'"),
        (["own.ipynb"], "notebooks() must return a mapping"),
        ({"eval": Path("/nowhere/own.ipynb")}, "own.ipynb of adapter 'toy' is missing"),
    ],
)
def test_what_is_wrong_with_an_adapters_notebooks_is_said(
    toy: wb.BaseAdapter,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    notebooks: object,
    says: str,
) -> None:
    monkeypatch.setattr(type(toy), "notebooks", lambda _: notebooks)
    assert cli.run(["notebooks", "sync", "toy"]) in (1, 2)
    assert says in capsys.readouterr().err
