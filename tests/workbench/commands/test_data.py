"""``workbench data check`` with an adapter that knows one source: output, document, errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import workbench as wb
from workbench import cli
from workbench.commands import data


def test_the_result_is_printed_for_people_and_for_programs(
    toy: wb.BaseAdapter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["data", "check", "words", "--adapter", "toy", "--into", str(tmp_path)]
    assert cli.run(command) == 0
    shown = capsys.readouterr().out
    assert "3 words" in shown
    assert "What it holds" in shown
    assert cli.run([*command, "--thorough", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["source"], document["thorough"], document["folder"]) == ("words", True, str(tmp_path))
    assert cli.run(["data", "check", "nothing", "--adapter", "toy", "--into", str(tmp_path)]) == 2
    assert "no source 'nothing'" in capsys.readouterr().err


def test_an_adapter_without_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Plain(wb.BaseAdapter):
        name = "plain"

    monkeypatch.setattr("workbench.adapter.registry.get_adapter", lambda name=None: Plain())
    assert cli.run(["data", "check", "x", "--into", str(tmp_path)]) == 2
    assert "check_data" in capsys.readouterr().err


def test_each_source_has_a_folder_of_its_own() -> None:
    one, other = (data.results_folder(source) for source in ("a", "b"))
    assert one != other
    assert one.parent == other.parent
