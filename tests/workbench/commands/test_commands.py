"""The documents of commands, their arguments, and shell completion."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import workbench as wb
from tests.conftest import installed, workspace_in
from workbench import cli
from workbench.commands import arguments
from workbench.commands.completion import SHELLS
from workbench.commands.documents import DOCUMENTS, ERROR, Shape, in_words
from workbench.jobs import submission
from workbench.search import indexes

PLAIN: Mapping[str, Callable[[Any], bool]] = {
    "text": lambda value: isinstance(value, str),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "whole number": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "true or false": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
}


def misfits(shape: Shape, value: Any, where: str = "") -> list[str]:
    """Return where a document deviates from its declaration."""
    if isinstance(shape, tuple):
        return [] if value is None else misfits(shape[0], value, where)
    if isinstance(shape, str):
        return [] if PLAIN[shape](value) else [f"{where}: {value!r} is not a {shape}"]
    if isinstance(shape, list):
        if not isinstance(value, list):
            return [f"{where}: {value!r} is not a list"]
        return [line for n, part in enumerate(value) for line in misfits(shape[0], part, f"{where}[{n}]")]
    if not isinstance(value, dict) or value.keys() != shape.keys():
        return [f"{where}: {value!r} does not have the keys {list(shape)}"]
    return [line for key, part in shape.items() for line in misfits(part, value[key], f"{where}.{key}")]


def test_a_document_that_deviates_is_detected() -> None:
    shape: Shape = {"a": [("number", None)], "b": "text", "c": {"d": "true or false"}}
    fitting = {"a": [1, None, 2.5], "b": "", "c": {"d": False}}
    assert misfits(shape, fitting) == []
    for changed in ({"a": ["1"]}, {"a": None}, {"b": None}, {"c": {"d": 0}}, {"c": {}}, {"e": 1}):
        assert misfits(shape, fitting | changed), changed


@pytest.fixture(scope="module")
def home(toy_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[wb.Workspace]:
    """A workspace with jobs and runs of every kind that commands report."""
    with installed(toy_package), workspace_in(tmp_path_factory.mktemp("commands") / "results") as home:
        for kind, options in (("train", {}), ("index_build", {}), ("eval", {"k": 2})):
            home.submit(kind, "toy", options).wait(300)
        home.submit("train", "toy", {"steps": 4}).wait(300)
        failed = home.submit("eval", "toy", {"fail": "나쁜 것"})
        failed.wait(300, check=False)
        assert failed.status == "failed"
        yield home


def call(home: wb.Workspace, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "workbench.cli", "--workspace", str(home.path), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


#: Each command's words, what follows them, and its exit code.
CALLS = [
    ("jobs list", ["--limit", "10"], 0),
    ("jobs show", ["3"], 0),
    ("jobs show", ["5"], 0),
    ("jobs logs", ["1"], 0),
    ("runs", [], 0),
    ("compare", ["1", "2"], 0),
    ("import mlflow", ["{mlruns}"], 0),
    ("import tensorboard", ["{board}"], 0),
    ("data check", ["words", "--adapter", "toy"], 0),
    ("cache show", [], 0),
    ("cache clear", [], 0),
    ("search", ["text", "dog"], 0),
    ("search", ["compose", "+dog -dot"], 0),
    ("explain", ["dog", "dot", "--index", "words"], 0),
    ("index", ["pets", "--name", "words", "--adapter", "toy"], 0),
    ("new adapter", ["my_model", "--into", "{tmp}"], 0),
    ("completion", ["bash"], 0),
]


@pytest.mark.parametrize(("words", "more", "code"), CALLS, ids=lambda value: str(value))
def test_standard_output_is_the_declared_document_and_nothing_else(
    home: wb.Workspace, tmp_path: Path, words: str, more: list[str], code: int
) -> None:
    if "{board}" in more:
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(tmp_path / "board")) as writer:
            writer.add_scalar("loss", 0.5, 1)
    elif "{mlruns}" in more:
        run = tmp_path / "mlruns" / "0" / "r1"
        run.mkdir(parents=True)
        (run.parent / "meta.yaml").write_text("name: Default\nlifecycle_stage: active\n")
        (run / "meta.yaml").write_text("run_id: r1\nstatus: 3\nstart_time: 1000\nend_time: 2000\n")
    places = {"tmp": tmp_path, "board": tmp_path / "board", "mlruns": tmp_path / "mlruns"}
    done = call(home, *words.split(), *(word.format(**places) for word in more), "--json")
    assert done.returncode == code, done.stderr
    assert misfits(DOCUMENTS[words], json.loads(done.stdout)) == []


def test_cancel_and_doctor_print_their_documents(
    home: wb.Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, more in (("jobs cancel", ["1"]), ("doctor", [])):
        cli.run([*words.split(), *more, "--json", "--workspace", str(home.path)])
        assert misfits(DOCUMENTS[words], json.loads(capsys.readouterr().out)) == []


def test_a_worker_prints_its_document_when_it_is_stopped(home: wb.Workspace, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "workbench.cli", "--workspace", str(tmp_path / "w"), "worker", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as worker:
        assert worker.stderr is not None
        assert "stop it with Ctrl-C" in worker.stderr.readline()
        with wb.Workspace(tmp_path / "w") as other:
            other.submit("eval", "toy").wait(300)
        worker.send_signal(2)
        out, _ = worker.communicate(timeout=300)
    assert misfits(DOCUMENTS["worker"], json.loads(out)) == []
    assert worker.returncode == 0


def test_serving_prints_where(home: wb.Workspace) -> None:
    command = [sys.executable, "-m", "workbench.cli", "--workspace", str(home.path), "serve", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as served:
        assert served.stderr is not None
        assert "The search page is at http://127.0.0.1:" in served.stderr.readline()
        served.terminate()
        out, _ = served.communicate(timeout=300)
    assert misfits(DOCUMENTS["serve"], json.loads(out)) == []
    assert served.returncode == 0


def test_every_command_has_a_document_that_is_tested() -> None:
    tested = {words for words, _, _ in CALLS} | {"jobs cancel", "doctor", "worker", "serve"}
    tested |= {"jobs submit", "demo"}  # beside what else their jobs show, in test_cli.py
    tested |= {"notebooks sync"}  # in test_notebooks.py
    tested |= {"metrics"}  # in test_metrics.py
    tested |= {"cluster certs", "cluster start", "cluster join"}  # in test_cluster.py
    ordered = ("rename", "archive", "restore", "delete")  # in test_order.py
    tested |= {f"{many} {verb}" for many in ("runs", "jobs", "experiments", "indexes") for verb in ordered}
    tested |= {"runs show", "experiments list", "indexes list"}
    assert tested == set(DOCUMENTS)


@pytest.mark.parametrize("words", DOCUMENTS)
def test_its_help_shows_the_document(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.run([*words.split(), "--help"])
    assert raised.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert in_words(DOCUMENTS[words]) in shown
    assert "--workspace DIR" in shown


@pytest.mark.parametrize("before", [True, False])
def test_workspace_and_json_are_taken_everywhere(
    home: wb.Workspace, before: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    everywhere = ["--workspace", str(home.path), "--json"]
    for words in (["jobs", "list"], ["runs"]):
        assert cli.run([*everywhere, *words] if before else [*words, *everywhere]) == 0
        json.loads(capsys.readouterr().out)
    assert cli.run(["jobs", *everywhere, "list"]) == 0
    json.loads(capsys.readouterr().out)


# Errors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("job list", r"Did you mean 'jobs'\?"),
        ("jobs lst", r"Did you mean 'list'\?"),
        ("jobs list --limit -1", "--limit: .*at least 0.*'-1'"),
        ("jobs list --limit many", "--limit: .*whole number.*'many'"),
        ("serve --port 70000", "--port: .*0 to 65535.*'70000'"),
        ("search text", "required: QUERY"),
        ("search compose", "required: QUERY"),
        ("search text dog --item=dot", "--image and --item are for search compose"),
        ("completion tcsh", "invalid choice: 'tcsh'"),
        ("runs --experimnt x", "unrecognized arguments: --experimnt x"),
    ],
)
def test_a_usage_error_is_a_document_too(line: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.run([*line.split(), "--json"])
    assert raised.value.code == 2
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert misfits(ERROR, document) == []
    assert re.search(says, document["error"]["message"] + document["error"]["hint"])
    assert re.search(says, err)
    assert "usage: workbench" in err


def test_an_unexpected_error_is_a_document_and_a_traceback(
    home: wb.Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fall(*_: object, **__: object) -> None:
        raise RuntimeError("a bug of the adapter's")

    monkeypatch.setattr(indexes, "open_index", fall)
    assert cli.run(["search", "text", "dog", "--json", "--workspace", str(home.path)]) == 1
    out, err = capsys.readouterr()
    assert misfits(ERROR, json.loads(out)) == []
    assert "a bug of the adapter's" in json.loads(out)["error"]["message"]
    assert "Traceback" in err


def test_a_failure_without_a_message_is_listed(
    workspace: wb.Workspace, toy: wb.BaseAdapter, capsys: pytest.CaptureFixture[str]
) -> None:
    job = submission.submit(workspace, "eval", "toy", start_worker=False)
    workspace.store.claim_job({"worker_id": "w"}, 60)
    error = {"cell": 3, "type": "ValueError", "message": ""}
    assert workspace.store.move_job(job.id, expect="running", to="failed", attempt=1, error=error)
    assert cli.run(["jobs", "list", "--workspace", str(workspace.path)]) == 0
    assert "cell [3] ValueError:" in capsys.readouterr().out


def test_option_values_are_parsed_as_json_where_possible() -> None:
    assert arguments.options(["a=1", 'b=["x"]', "c=강=1", "d="]) == {"a": 1, "b": ["x"], "c": "강=1", "d": ""}
    with pytest.raises(wb.BadInput, match=r"--option a\b.*repeated"):
        arguments.options(["a=1", "a=2"])


# Completion -----------------------------------------------------------------------------------------


def completions(home: wb.Workspace, line: str, shell: str = "bash") -> list[str]:
    """Return a shell's completions at the end of a line, requested as the shell does."""
    env = {
        **os.environ,
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_SHELL": shell,
        "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(home.path / "completions"),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line.encode())),
        "IFS": "\n",
        "_ARGCOMPLETE_IFS": "\n",
        "WORKBENCH_HOME": str(home.path),
    }
    (home.path / "completions").unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "workbench.cli"], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    offered = (home.path / "completions").read_text(encoding="utf-8").splitlines()
    # zsh and fish get a description of each word, too
    return [re.split(r"(?<!\\)[:\t]", word)[0].strip() for word in offered]


COMPLETIONS = [
    ("workbench jo", ["jobs"]),
    ("workbench jobs su", ["submit"]),
    ("workbench jobs submit --adapter to", ["toy"]),
    ("workbench jobs submit tr", ["train"]),
    ("workbench jobs list --status canc", ["cancelling", "cancelled"]),
    ("workbench search text x --index w", ["words"]),
    ("workbench runs --experiment c", ["counting"]),
    ("workbench jobs submit eval --adapter toy --option st", ["steps="]),
    ("workbench completion f", ["fish"]),
]


@pytest.mark.parametrize(
    ("shell", "line", "offers"),
    # Every line in one shell, and in every shell one line: what is offered does not depend on the shell, and
    # how it is written not on the line.
    [(SHELLS[0], *one) for one in COMPLETIONS] + [(shell, *COMPLETIONS[4]) for shell in SHELLS[1:]],
)
def test_a_shell_completes(home: wb.Workspace, shell: str, line: str, offers: list[str]) -> None:
    assert sorted(completions(home, line, shell)) == sorted(offers)


def test_a_job_is_completed_by_its_id(home: wb.Workspace) -> None:
    assert {"1", "2", "3"} <= set(completions(home, "workbench jobs show "))


def test_bash_itself_completes(home: wb.Workspace, tmp_path: Path) -> None:
    command = Path(sys.executable).parent / "workbench"
    script = (
        f'PATH="{command.parent}:$PATH"; eval "$(workbench completion bash)"; '
        'COMP_LINE="workbench jobs ca"; COMP_POINT=17; COMP_WORDS=(workbench jobs ca); COMP_CWORD=2; '
        "COMP_TYPE=9; "
        "$(complete -p workbench | sed -E 's/.*-F ([^ ]+).*/\\1/') workbench ca jobs; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    env = {**os.environ, "WORKBENCH_HOME": str(home.path)}
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["cancel"], done.stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_gets_a_script_that_names_the_command(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "workbench" in script
    assert {"bash": "complete ", "zsh": "compdef", "fish": "complete --command"}[shell] in script
