"""What commands print, and how a job's progress looks where there is no terminal."""

from __future__ import annotations

import io
import json
import math
from types import SimpleNamespace
from typing import Any

import pytest

import workbench as wb
from workbench import cli
from workbench.commands import exit_codes, output
from workbench.commands.output import MOST_LINES, complain, print_error, print_table
from workbench.commands.progress import JobProgress


def test_an_error_is_a_document_on_one_stream_and_a_sentence_on_the_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = wb.BadInput("no such thing", hint="Try another.", advice="Or raise $MOST with `tool --most`.")
    output.print_error(error, as_json=True)
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "error": {
            "type": "BadInput",
            "message": "no such thing",
            "hint": "Try another.",
            "advice": "Or raise $MOST with `tool --most`.",
        }
    }
    assert err == "error: no such thing\nTry another. Or raise $MOST with `tool --most`.\n"
    complain(error)
    assert capsys.readouterr().err == err
    output.print_error(ValueError("odd"), as_json=False)
    assert capsys.readouterr() == ("", "error: odd\n")


def test_a_table_cuts_nothing_where_no_terminal_does(capsys: pytest.CaptureFixture[str]) -> None:
    long = "[bold]" + "강" * 300
    output.print_table(["id", "text"], [["1", long]])
    printed = capsys.readouterr().out
    assert long in printed  # in full, and not taken for markup
    output.print_table(["id"], [], empty="no jobs yet")
    assert capsys.readouterr().out == "no jobs yet\n"


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_document_is_json_whatever_a_metric_was(value: float, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    output.print_document({"runs": [{"last": value, "name": "강\udce9", "rows": ({"a": value},)}]})
    printed = json.loads(capsys.readouterr().out, parse_constant=refuse)
    kept = {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value)
    assert printed["runs"] == [{"last": kept, "name": "강\udce9", "rows": [{"a": kept}]}]


def test_the_runs_are_json_where_a_metric_is_infinite(
    workspace: wb.Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    with workspace.start_run("\x1b[2Jcleared") as run:
        run.log({"loss": math.inf}, step=0)
    assert cli.run(["--workspace", str(workspace.path), "runs", "--json"]) == 0
    out = capsys.readouterr().out
    assert "Infinity" not in out.replace('"Infinity"', "")
    assert json.loads(out)["runs"][0]["summary"]["loss"]["last"] == "Infinity"
    assert cli.run(["--workspace", str(workspace.path), "runs"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_wrong_use_and_what_is_missing_end_differently(
    tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    home = ["--workspace", str(tmp_path / "results")]
    assert cli.run([*home, "runs"]) == exit_codes.WRONG_USE
    assert not (tmp_path / "results").exists()
    wb.Workspace(tmp_path / "results").close()
    assert cli.run([*home, "runs"]) == exit_codes.DONE
    assert cli.run([*home, "jobs", "show", "7"]) not in (exit_codes.DONE, exit_codes.CANCELLED)
    with pytest.raises(SystemExit) as ended:
        cli.run([*home, "no-such-word"])
    assert ended.value.code == exit_codes.WRONG_USE
    assert len({exit_codes.DONE, exit_codes.FAILED, exit_codes.WRONG_USE, exit_codes.CANCELLED}) == 4


def job(message: str, status: str = "running", fraction: float | None = 0.25) -> Any:
    progress = SimpleNamespace(message=message, stages=(), fraction=fraction, words=message, done=1, total=4)
    return SimpleNamespace(id=1, type="eval", status=status, progress=progress, summary="R@1 0.5")


def test_without_a_terminal_a_line_is_printed_when_the_words_change() -> None:
    stream = io.StringIO()
    with JobProgress(stream) as shown:
        for message in ("step 1, loss 2.5", "step 2, loss 2.4", "ranking"):
            shown(job(message))
        shown(job("ranking", "succeeded"))
    assert [line.split() for line in stream.getvalue().splitlines()] == [
        ["eval", "25%", "step", "1,", "loss", "2.5"],
        ["eval", "25%", "ranking"],
        ["eval", "succeeded:", "R@1", "0.5"],
    ]


def test_an_error_is_a_few_lines_whatever_it_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    complain("x" * 100_000 + "\nsecond\n" * 500)
    err = capsys.readouterr().err
    assert len(err) < 2_000
    assert len(err.splitlines()) == MOST_LINES + 1
    assert "more lines" in err


@pytest.mark.parametrize("error", [wb.UnknownJob(7), wb.UnknownRun(7), wb.UnknownIndex("x")])
def test_only_the_command_line_names_commands(
    error: wb.WorkbenchError, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "workbench " not in str(error)
    print_error(error, as_json=True)
    out, err = capsys.readouterr()
    assert "with: workbench " in err
    assert json.loads(out)["error"]["hint"] == err.splitlines()[-1]


def test_a_row_of_a_list_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("id", "error"), [("1", "one\ntwo " * 4_000), ("2", "three")], one_line=True)
    lines = capsys.readouterr().out.rstrip().splitlines()
    assert len(lines) == 5  # a margin, the head, a rule, and one line each
    assert "one" in lines[3]
    assert "two" not in lines[3]
    assert max(map(len, lines)) < 1_000
