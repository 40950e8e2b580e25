import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

import workbench as wb
from tests.conftest import installed, workspace_in
from tests.waiting import GUARD, until
from tests.workbench.commands.test_commands import misfits
from tests.workbench.conftest import make_index
from workbench import cli
from workbench.commands.demo import filled_in
from workbench.commands.documents import DOCUMENTS
from workbench.jobs import submission
from workbench.results.result import plain_result

SUBMIT = ("jobs", "submit", "eval", "--adapter", "toy")


class Cli:
    """The command line, in this process."""

    def __init__(self, home: wb.Workspace, capture: pytest.CaptureFixture[str]) -> None:
        self.home = home
        self.capture = capture
        self.err = ""

    def __call__(self, *arguments: str, code: int = 0) -> str:
        assert cli.run([*arguments, "--workspace", str(self.home.path)]) == code
        out, self.err = self.capture.readouterr()
        return out

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", code=code))


@pytest.fixture
def command(workspace: wb.Workspace, toy: wb.BaseAdapter, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(workspace, capsys)


@pytest.fixture(scope="module")
def home(toy_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[wb.Workspace]:
    """One workspace with the toy for the commands that run real jobs."""
    with installed(toy_package), workspace_in(tmp_path_factory.mktemp("cli") / "results") as home:
        yield home


def workbench(home: wb.Workspace, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "workbench.cli", "--workspace", str(home.path), *arguments]


# Real jobs, real processes --------------------------------------------------------------------------


def test_submitting_and_waiting_prints_one_document(home: wb.Workspace) -> None:
    command = workbench(
        home, "jobs", "submit", "eval", "--adapter", "toy", "--option", "k=5", "--wait", "--json"
    )
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    out = json.loads(done.stdout)
    assert misfits(DOCUMENTS["jobs submit"], out) == []
    assert (out["status"], out["options"]["k"], out["result"]["metrics"]) == ("succeeded", 5, {"R@5": 0.5})
    assert Path(out["notebook"]).is_file()
    assert "eval         succeeded: measured" in done.stderr


def test_a_failed_job_exits_1_and_names_its_cell(home: wb.Workspace) -> None:
    command = workbench(home, *SUBMIT, "-o", "fail=나쁜 것", "--wait", "--json")
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert misfits(DOCUMENTS["jobs submit"], json.loads(done.stdout)) == []
    assert "failed in cell [3]: ValueError: 나쁜 것" in done.stderr
    assert "notebook.ipynb" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_cancelled_job_exits_75(home: wb.Workspace) -> None:
    command = workbench(
        home, "jobs", "submit", "eval", "--adapter", "toy", "-o", "seconds=60", "--wait", "--json"
    )
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
        until(lambda: home.jobs(status="running"))
        (running,) = home.jobs(status="running")
        assert cli.run(["jobs", "cancel", str(running.id), "--workspace", str(home.path)]) == 0
        out, _ = waiting.communicate(timeout=GUARD)
    assert waiting.returncode == 75
    assert json.loads(out)["status"] == "cancelled"


def test_a_result_below_its_floor_exits_1_and_names_it(home: wb.Workspace) -> None:
    floors = '{"R@5": 0.6, "loss": 1}'
    command = workbench(home, *SUBMIT, "--option", "k=5", "--fail-below", floors, "--wait", "--json")
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stderr
    assert re.search(r"R@5\b.*0\.5\b.*0\.6\b", done.stderr)
    assert re.search(r"no metric.*'loss'", done.stderr)
    job = json.loads(done.stdout)
    assert (job["status"], job["error"]["type"]) == ("failed", "BelowFloor")
    assert job["result"]["metrics"] == {"R@5": 0.5}
    # The executed notebook shows the tables above the failure.
    assert "Recall by k" in Path(job["notebook"]).read_text()


def test_a_users_own_notebook_is_submitted_and_its_log_followed(home: wb.Workspace, tmp_path: Path) -> None:
    page = tmp_path / "mine.ipynb"
    parameters = nbformat.v4.new_code_cell(
        "steps: int = 1\nname: str = ''", metadata={"tags": ["parameters"]}
    )
    work = nbformat.v4.new_code_cell(
        "import time\nfor step in range(steps):\n    print(name, step, flush=True); time.sleep(0.05)"
    )
    nbformat.write(nbformat.v4.new_notebook(cells=[parameters, work]), page)
    options = ("--option", "steps=3", "--option", "name=007", "--json")
    submit = workbench(home, "jobs", "submit", str(page), *options)
    job = json.loads(subprocess.run(submit, capture_output=True, check=True, timeout=300).stdout)
    assert (job["type"], job["options"], job["source"]) == (
        "notebook",
        {"steps": 3, "name": "007"},
        str(page),
    )
    follow = subprocess.run(
        workbench(home, "jobs", "logs", str(job["id"]), "--follow"),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert [line.split("  ", 1)[1] for line in follow.stdout.splitlines()] == ["007 0", "007 1", "007 2"]
    where = home.path / "jobs" / str(job["id"]) / "output.txt"
    assert follow.stderr == f"Everything that its notebook printed is in {where}\n"
    assert where.read_text() == "007 0\n007 1\n007 2\n"
    assert home.job(job["id"]).status == "succeeded"
    refused = subprocess.run([*submit, "--option", "steps=many"], capture_output=True, text=True, timeout=300)
    assert (refused.returncode, "Traceback" in refused.stderr) == (2, False)
    assert "steps" in refused.stderr


def test_the_demo_runs_the_adapters_jobs_and_prints_its_document(home: wb.Workspace) -> None:
    command = workbench(home, "demo", "--adapter", "toy", "--no-serve", "--json")
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    out = json.loads(done.stdout)
    assert misfits(DOCUMENTS["demo"], out) == []
    assert set(out) == {"workspace", "jobs", "run", "index", "metrics"}
    assert out["workspace"] == str(home.path)
    assert [(job["type"], job["status"]) for job in out["jobs"]] == [
        ("train", "succeeded"),
        ("eval", "succeeded"),
        ("index_build", "succeeded"),
    ]
    assert all(set(job) == {"id", "type", "status", "notebook"} for job in out["jobs"])
    assert all(Path(job["notebook"]).is_file() for job in out["jobs"])
    assert out["index"] == {"name": "words"}
    assert out["metrics"] == {"R@4": 0.4}
    assert home.run(out["run"]["id"]).summary["loss"]["best_step"] == 2
    assert home.job(out["jobs"][1]["id"]).options["run"] == out["run"]["id"]
    assert home.open_search("words").by_text("강아지")[0].id == "강아지"
    for line in ("train        100%  counting", "train          ", "5 words"):
        assert line in done.stderr


# The rest, without a worker -------------------------------------------------------------------------


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, says in (
        (["--help"], "doctor"),
        (["jobs", "--help"], "cancel"),
        (["--version"], wb.__version__),
    ):
        with pytest.raises(SystemExit) as raised:
            cli.run(arguments)
        assert raised.value.code == 0
        assert says in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [[], ["dance"], ["jobs"], ["search", "smell", "x"], ["jobs", "list", "--limit", "x"]]
)
def test_wrong_words_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.run(arguments)
    assert raised.value.code == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("jobs submit dance --adapter toy", r"dance.*train, eval, index_build"),
        ("jobs submit eval --adapter toi", r"did you mean 'toy'\?"),
        ("jobs submit eval", r"adapter.*toy"),
        ("jobs submit eval --adapter toy -o k=many", "k: .*integer"),
        ("jobs submit eval --adapter toy -o k", "--option .*NAME=VALUE.*'k'"),
        ("jobs show 99", "no job"),
        ("jobs logs x", "no job"),
        ("jobs cancel 1", "no job"),
        ("jobs list --status done", "done.*queued, .*running"),
        ("runs --experiment x", "no experiment"),
        ("compare 1 2", "no run"),
        ("search text dog", "no index"),
        ("serve --index x", "no index"),
        ("worker --slots 0", "--slots .*at least 1.* 0"),
    ],
)
def test_a_users_mistake_is_a_sentence_and_exit_2(command: Cli, arguments: str, says: str) -> None:
    assert command(*arguments.split(), code=2) == ""
    assert re.search(says, command.err)
    assert "Traceback" not in command.err
    error = command.json(*arguments.split(), code=2)["error"]
    assert re.search(says, error["message"])
    assert set(error) == {"type", "message", "hint", "advice"}


def test_an_impossible_workspace_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert cli.run(["runs", "--workspace", str(tmp_path / "file")]) == 2
    error = capsys.readouterr().err
    assert str(tmp_path / "file") in error
    assert "workspace" in error


def test_the_workspace_may_be_named_before_the_command(
    command: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["--workspace", str(command.home.path), "--json", "jobs", "list"]) == 0
    assert json.loads(capsys.readouterr().out) == {"jobs": []}


def test_jobs_are_listed_shown_and_cancelled(command: Cli) -> None:
    assert "No job" in command("jobs", "list")
    job = submission.submit(command.home, "eval", "toy", {"fail": "글자"}, start_worker=False)
    job.folder.mkdir(parents=True)
    (job.folder / "log.txt").write_text("one\ntwo\n")
    table = command("jobs", "list")
    assert "eval" in table
    assert "queued" in table
    assert command.json("jobs", "list")["jobs"][0]["id"] == 1
    assert "글자" in command("jobs", "show", "1")
    assert command("jobs", "logs", "1", "--tail", "1") == "two\n"
    assert command.json("jobs", "logs", "1")["lines"] == ["one", "two"]
    assert command("jobs", "cancel", "1") == "job 1: cancelled\n"
    assert command.json("jobs", "show", "1")["status"] == "cancelled"


def test_runs_are_listed_and_compared(command: Cli) -> None:
    for lr in (0.1, 0.2):
        with command.home.start_run("e", config={"lr": lr}, better={"m": "higher"}) as run:
            run.log({"m": lr})
    listed = command.json("runs")["runs"]
    assert [(run["id"], run["summary"]["m"]["last"]) for run in listed] == [(2, 0.2), (1, 0.1)]
    assert "m=0.2" in command("runs")
    table = command("compare", "1", "2")
    assert "lr" in table
    assert "🏆 0.2" in table
    assert command.json("compare", "1", "2")["final"][0]["best"] == [False, True]


def test_searching_with_a_text_and_with_a_picture(command: Cli, tmp_path: Path) -> None:
    folder = command.home.indexes / "words"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"adapter": "toy", "words": ["dog", "강아지", "강"]}))
    out = command.json("search", "text", "강아지", "-k", "2")
    assert [hit["id"] for hit in out["hits"]] == ["강아지", "강"]
    assert set(out["hits"][0]) == {"id", "score", "distance", "caption", "path"}
    assert (out["note"], out["cutoff"]) == ("", None)
    assert "total" in out["took_ms"]
    picture = tmp_path / "dog.png"
    picture.write_bytes(b"dog")
    lines = command("search", "image", str(picture), "--index", "words").splitlines()
    assert [line.split()[:2] for line in lines if "1.000" in line] == [["1.000", "dog"]]
    command("search", "image", "missing.png", code=2)
    assert re.search(r"missing\.png.*No such file", command.err)
    command("search", "text", "dog", "-o", "colour=red", code=2)
    assert re.search(r"unknown.*colour|colour.*unknown", command.err)


def test_searching_with_a_filter(command: Cli) -> None:
    make_index(command.home.path, "words")
    for asked in (("--filter", "letter:d"), ("-o", "filter=letter:d")):
        out = command.json("search", "text", "dog", *asked)
        assert sorted(hit["id"] for hit in out["hits"]) == ["dog", "dot"]
    command("search", "text", "dog", "--filter", "letter:d and (letter:o", code=2)
    assert "column 23: expected ')' for the '(' at column 14, found the end" in command.err
    lines = command.err.splitlines()
    at = next(place for place, line in enumerate(lines) if line.strip() == "^")
    assert lines[at].index("^") == lines[at - 1].index("letter:o") + len("letter:o")
    command("search", "text", "dog", "--filter", "leter:d", code=2)
    assert "unknown field 'leter'; did you mean 'letter'?" in command.err
    command("search", "text", "dog", "--filter", "letter:d", "-o", "filter=letter:d", code=2)
    assert "--option filter is repeated" in command.err


@pytest.mark.parametrize(
    ("cutoff", "says"),
    [
        (0, "No good match. These are the closest."),
        (1, "Only the first is nearer than unrelated items usually are."),
        (2, "Only the first 2 are nearer than unrelated items usually are."),
        (3, ""),
        (None, ""),
    ],
)
def test_a_search_says_which_hits_are_near(
    command: Cli, monkeypatch: pytest.MonkeyPatch, cutoff: int | None, says: str
) -> None:
    folder = command.home.indexes / "words"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"adapter": "toy", "words": ["dog", "dot", "do"]}))
    toy = type(wb.get_adapter("toy"))
    original = toy.search_by_text

    def near(self: Any, index: Any, query: str, k: int, options: Any) -> wb.SearchResult:
        return wb.SearchResult(original(self, index, query, k, options).hits, note="a note", cutoff=cutoff)

    monkeypatch.setattr(toy, "search_by_text", near)
    lines = command("search", "text", "dog").splitlines()
    assert lines[-2:] == ["a note", says] if says else lines[-1:] == ["a note"]
    out = command.json("search", "text", "dog")
    assert (out["note"], out["cutoff"]) == ("a note", cutoff)
    assert (says or "a note") in repr(command.home.open_search("words").by_text("dog"))


def test_a_long_caption_takes_one_line_of_a_table(command: Cli) -> None:
    folder = command.home.indexes / "words"
    folder.mkdir()
    long = "a very long caption\nin lines " * 3_000
    (folder / "manifest.json").write_text(json.dumps({"adapter": "toy", "words": [long, "b"]}))
    table = command("search", "text", "a", "-k", "2")
    assert len(table) < 1_500
    assert "a very long caption in lines a very" in table
    assert "…" in table
    assert command.json("search", "text", "a", "-k", "2")["hits"][0]["caption"] == long


def test_why_two_things_are_near(command: Cli, tmp_path: Path) -> None:
    make_index(command.home.path, "words")
    (picture := tmp_path / "a.png").write_bytes(b"pizza")
    out = command.json("explain", "강아지", "dogs")
    assert (out["left"]["by"], out["left"]["id"]) == ("item", "강아지")  # an item's id, then a text
    assert (out["right"]["by"], out["right"]["caption"]) == ("text", "dogs")
    assert (out["index"], out["views"][0]["kind"]) == ("words", "cells")
    text = command("explain", "text:dog", f"image:{picture}", "--index", "words")
    assert "A: dog (text)" in text
    assert "B: pizza (picture)" in text
    assert "A ...x..xx" not in text
    assert "^" in text
    assert command.json("explain", "item:dog", str(picture))["right"]["by"] == "image"
    for arguments, says in (
        (("item:cat", "dog"), "no item 'cat'"),
        (("cat.jpg", "dog"), r"'cat.jpg': no such file"),
        (("image:cat", "dog"), "'cat' cannot be read: No such file"),
        ((" ", "dog"), "empty"),
        (("text:", "dog"), "empty"),
        (("a", "dog", "-o", "colour=red"), "unknown option"),
    ):
        command("explain", *arguments, code=2)
        assert re.search(says, command.err)


def test_several_indexes_need_a_choice(command: Cli) -> None:
    for name in ("a", "b"):
        (command.home.indexes / name).mkdir()
        (command.home.indexes / name / "manifest.json").write_text('{"adapter": "toy", "words": []}')
    command("search", "text", "dog", code=2)
    assert re.search(r"index.*a, b", command.err)
    assert "--index" in command.err


def test_demo_options_refer_to_the_outputs_of_earlier_jobs() -> None:
    made = {"train": {"run": 3}}
    assert filled_in({"run": "$train.run", "deep": {"r": "$train.run"}, "k": 1}, made) == {
        "run": 3,
        "deep": {"r": 3},
        "k": 1,
    }
    with pytest.raises(wb.BadInput, match=r"x='\$train\.walk'.*\$train\.run"):
        filled_in({"x": "$train.walk"}, made)


# Cheap mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    ["runs", "jobs list", "jobs show 1", "jobs cancel 1", "compare 1 2", "search text x", "serve", "doctor"],
)
def test_a_mistyped_path_is_named_with_the_nearest_and_not_created(
    workspace: wb.Workspace, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for wrong in (workspace.path.with_name("reslts"), workspace.path.with_name("reslts") / "results"):
        assert cli.run([*line.split(), "--workspace", str(wrong)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert f"there is no workspace at {wrong}; did you mean {workspace.path}?" in err
    assert [path.name for path in workspace.path.parent.iterdir()] == ["results"]
    # A project's folder instead of the workspace in it.
    if line != "doctor":
        assert cli.run([*line.split(), "--workspace", str(workspace.path.parent)]) == 2
        assert f"did you mean {workspace.path}?" in capsys.readouterr().err
        assert not (workspace.path.parent / "workbench.db").exists()


def test_a_list_is_one_line_per_job_whatever_an_error_said(command: Cli) -> None:
    metrics = {f"t2i/R@{k}@128": 0.5 for k in range(1200)}
    for message in ("x" * 8_000 + "\nsecond " * 500, "short"):
        job = submission.submit(command.home, "eval", "toy", start_worker=False)
        command.home.store.claim_job({"worker_id": "w"}, 60)
        result = wb.Result(summary="half", metrics=metrics, headline=["t2i/R@10@128"], warnings=["w"] * 9)
        command.home.store.save_result(job.id, 1, plain_result(result))
        error = {"cell": 3, "type": "BelowFloor", "message": message}
        assert command.home.store.move_job(job.id, expect="running", to="failed", attempt=1, error=error)
    lines = command("jobs", "list").strip().splitlines()
    assert len(lines) == 4  # the head, a rule, and one line per job
    assert max(map(len, lines)) < 250
    brief = command("jobs", "show", "1")
    assert len(brief.splitlines()) < 40
    assert len(brief) < 4_000
    assert "t2i/R@10@128" in brief
    assert "t2i/R@11@128" not in brief
    assert "1,205 more lines with: workbench jobs show 1 --full" in brief
    full = command("jobs", "show", "1", "--full")
    assert "t2i/R@1199@128" in full
    assert full.count("warning: w") == 9
    assert full.count("second ") == 500


def test_runs_show_their_scores_first(command: Cli) -> None:
    with command.home.start_run("e", better={"train/*": "lower", "val/acc": "higher"}) as run:
        run.log({**{f"train/{name}": 1.0 for name in "abcd"}, "val/acc": 0.5}, step=1)
    assert "val/acc=0.5, train/a=1" in command("runs")
