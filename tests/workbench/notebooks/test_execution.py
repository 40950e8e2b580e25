"""Executing a notebook, by the process that a worker starts for it."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest

import workbench as wb
from workbench.adapter.contract import DATA_CHECK, JOB_METHODS
from workbench.host import processes
from workbench.jobs.worker.attempt import Runner
from workbench.notebooks import shipped
from workbench.notebooks.parameters import declared_parameters


@dataclass
class Done:
    """How a notebook ended."""

    code: int
    error: dict[str, Any] | None
    cells: list[Any]
    log: str
    output: str
    said: dict[str, Any]


def execute(
    folder: Path,
    *sources: str,
    parameters: dict[str, Any] | None = None,
    tags: dict[int, list[str]] | None = None,
    kernelspec: dict[str, str] | None = None,
    **more: Any,
) -> Done:
    """Execute code cells, the first of them tagged ``parameters``, in a runner."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    for place, names in {0: ["parameters"], **(tags or {})}.items():
        cells[place].metadata["tags"] = names
    given = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A page"), *cells])
    if kernelspec:
        given.metadata["kernelspec"] = kernelspec
    folder.mkdir(exist_ok=True)
    nbformat.write(given, folder / "in.ipynb")
    todo = {
        "source": str(folder / "in.ipynb"),
        "output": str(folder / "out" / "notebook.ipynb"),
        "parameters": parameters or {},
        "log": str(folder / "log.txt"),
        "cwd": str(folder),
        "environment": {},
        "watch_bars": False,
        **more,
    }
    runner = Runner()
    todo["runtime"] = str(processes.runtime_folder(runner.token))
    Path(todo["runtime"]).mkdir()
    runner.give(todo)
    code = runner.process.wait(600)
    assert runner.end() == []
    said = {key: value for report in runner.reports() for key, value in report.items()}
    runner.close()
    output = Path(todo["output"])
    return Done(
        code,
        said.get("failure"),
        nbformat.read(output, as_version=4).cells if output.exists() else [],
        (folder / "log.txt").read_text(),
        text.read_text() if (text := output.with_name("output.txt")).exists() else "",
        said,
    )


def log_lines(done: Done) -> list[list[str]]:
    return [line.split("  ", 1) for line in done.log.splitlines()]


def printed(done: Done) -> str:
    return "".join(output.get("text", "") for cell in done.cells for output in cell.get("outputs", []))


def test_a_notebook_runs_in_this_interpreter_with_its_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A `python3` kernel of the machine that is not ours must not matter.
    other = tmp_path / "jupyter" / "kernels" / "python3"
    other.mkdir(parents=True)
    spec = {"argv": ["/nowhere/python", "{connection_file}"], "display_name": "x", "language": "python"}
    (other / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "workbench.py").write_text("mine = 'a module of this folder'")
    done = execute(
        tmp_path / "a b",
        "k: int = 1  # how many\noptions: str = '{}'",
        "import os, sys\nprint(sys.executable, k, options['이름'], os.getcwd())",
        "import workbench; print(workbench.mine)",  # the folder's own
        "for part in range(3): print(f'\\r{part} of 3', end='')\nprint()\nprint('끝', file=sys.stderr)",
        parameters={"k": 3, "options": {"이름": "강아지", "none": None}},
    )
    assert (done.code, done.error) == (0, None)
    assert f"{sys.executable} 3 강아지 {tmp_path / 'a b'}" in printed(done)
    lines = log_lines(done)
    assert [said for _, said in lines][1:] == ["a module of this folder", "2 of 3", "끝"]
    assert all(len(at) == len("22:30:15") for at, _ in lines)
    assert sorted(path.name for path in (tmp_path / "a b" / "out").iterdir()) == [
        "notebook.ipynb",
        "output.txt",
    ]


def test_a_cell_that_fails_is_named_and_its_evidence_is_saved(tmp_path: Path) -> None:
    done = execute(tmp_path, "k = 1", "print('so far')", "raise ValueError('안 됩니다')", "print('never')")
    assert done.code == 1
    assert done.error == {"cell": 3, "type": "ValueError", "message": "안 됩니다"}
    assert "so far" in printed(done)
    assert "never" not in printed(done)
    assert any("In [3]" in cell.source for cell in done.cells)  # a note at the top leads to the cell


def test_a_kernel_that_dies_fails_its_cell(tmp_path: Path) -> None:
    done = execute(tmp_path, "k = 1", "print('so far', flush=True)", "import os; os._exit(7)")
    assert done.code == 1
    assert done.error is not None
    assert (done.error["cell"], done.error["type"]) == (3, "DeadKernelError")
    assert "memory" in done.error["message"]
    assert "so far" in printed(done)


@pytest.mark.parametrize(
    ("more", "kind", "says"),
    [
        ({"parameters": {"q": 1}}, "BadInput", "parameter 'q'. It declares: k"),
        (
            {"parameters": {"k=1; import os; x": 1}},
            "BadInput",
            "does not declare the parameter 'k=1; import os; x'",
        ),
        ({"source": "missing.ipynb"}, "BadInput", "missing.ipynb' not found"),
    ],
)
def test_what_cannot_be_run_is_refused_before_a_kernel_starts(
    tmp_path: Path, more: dict[str, Any], kind: str, says: str
) -> None:
    done = execute(tmp_path, "k = 1", **more)
    assert done.code == 1
    assert done.error is not None
    assert (done.error["cell"], done.error["type"]) == (None, kind)
    assert says in done.error["message"]
    assert done.cells == []


def test_an_interrupt_stops_at_the_cell_and_keeps_what_was_printed(tmp_path: Path) -> None:
    # The cell asks for it itself: the runner is the kernel's parent.
    stop = (
        "import os, signal, time\nprint('so far', flush=True)\n"
        "os.kill(os.getppid(), signal.SIGUSR1)\ntime.sleep(300)"
    )
    done = execute(tmp_path, "k = 1", stop, "print('never')")
    assert (done.code, done.error) == (75, None)
    assert "so far" in printed(done)
    assert "never" not in printed(done)


CHATTY = """
import logging, multiprocessing, subprocess, sys, threading, time
from IPython.display import HTML, display
logging.basicConfig(level="INFO", format="%(message)s")
for number in range(10_000):
    logging.info("step %d", number)
    if number % 100 == 0:
        display(HTML(f"<b>table {number}</b>"))
"""

CHILDREN = """
subprocess.run([sys.executable, "-c", "for i in range(3000): print('자식', i, flush=i % 7 == 0)"])
subprocess.run(["echo", "given our stdout"], stdout=sys.stdout)

def forked(who):
    for number in range(500):
        print("forked", who, number)

with multiprocessing.get_context("fork").Pool(4) as pool:
    pool.map(forked, range(4))
"""

THREADS = """
def late(said, before):
    if before is not None:
        before.join()
    time.sleep(0.3)
    print(f"after {said} s", flush=True)

first = threading.Thread(target=late, args=(0.3, None))
for thread in (first, threading.Thread(target=late, args=(0.6, first))):
    thread.start()
"""


@pytest.fixture(scope="module")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A notebook that prints a lot, in all the ways that people's notebooks do."""
    # The last thread prints when the notebook has no cell left to run.
    return execute(tmp_path_factory.mktemp("chatty"), "k = 1", CHATTY, CHILDREN, THREADS, "first.join()")


def test_every_line_is_kept_in_order(chatty: Done) -> None:
    assert (chatty.code, chatty.error) == (0, None)
    steps = [line for line in chatty.output.splitlines() if line.startswith("step ")]
    assert steps == [f"step {number}" for number in range(10_000)]
    assert [line for line in printed(chatty).splitlines() if line.startswith("step ")] == steps


def test_tables_between_many_lines_all_arrive(chatty: Done) -> None:
    tables = [one.data["text/html"] for one in chatty.cells[2].outputs if one.output_type == "display_data"]
    assert tables == [f"<b>table {number}</b>" for number in range(0, 10_000, 100)]


def test_what_child_processes_print_is_kept_once(chatty: Done) -> None:
    for text in (chatty.output, printed(chatty), "\n".join(said for _, said in log_lines(chatty))):
        lines = text.splitlines()
        assert [line for line in lines if line.startswith("자식")] == [
            f"자식 {number}" for number in range(3000)
        ]
        assert lines.count("given our stdout") == 1
        for who in range(4):
            mine = [line for line in lines if line.startswith(f"forked {who}")]
            assert mine == [f"forked {who} {number}" for number in range(500)]


def test_what_threads_print_after_their_cell_is_kept(chatty: Done) -> None:
    assert "after 0.3 s\nafter 0.6 s\n" in chatty.output
    assert "after 0.3 s\n" in printed(chatty)


SLOW_READER = """
import os, signal, subprocess, sys
runner = os.getppid()

def memory():
    status = open(f"/proc/{runner}/status").read().split()
    return int(status[status.index("VmHWM:") + 1]) / 1024

base = memory()
subprocess.Popen(["sh", "-c", f"sleep 1.5; kill -CONT {runner}"], start_new_session=True)
os.kill(runner, signal.SIGSTOP)
for number in range(5_000):
    print("step", number, flush=True)
line = "x" * 99 + "\\n"
for _ in range(60):
    sys.stdout.write(line * 10_000)
print("the runner took", memory() - base, "MB more")
"""


def test_a_slow_reader_loses_nothing_and_takes_little_memory(tmp_path: Path) -> None:
    done = execute(tmp_path, "k = 1", SLOW_READER)  # it stops its reader for a while, and prints 60 MB
    assert (done.code, done.error) == (0, None)
    lines = done.output.splitlines()
    assert lines[:5_000] == [f"step {number}" for number in range(5_000)]
    assert len(lines) == 5_000 + 600_000 + 1
    assert float(lines[-1].split()[3]) < 40
    assert (tmp_path / "out" / "notebook.ipynb").stat().st_size < 2e6
    assert lines[-1] in printed(done)
    assert lines[-1] in done.log
    note = (tmp_path / "out" / "output-note.txt").read_text()
    assert note == (
        "The notebook and the log leave out the middle of what was printed; output.txt has all of it: "
        "605,001 lines (60 MB).\n"
    )


def test_a_cell_that_is_expected_to_raise_fails_nothing(tmp_path: Path) -> None:
    done = execute(tmp_path, "k = 1", "1 / 0", "print('after')", tags={1: ["raises-exception"]})
    assert (done.code, done.error) == (0, None)
    assert [output.output_type for output in done.cells[2].outputs] == ["error"]
    assert "after" in printed(done)
    done = execute(tmp_path, "k = 1", "1 / 0", "[][0]", tags={1: ["raises-exception"]})
    assert (done.code, done.error) == (
        1,
        {"cell": 3, "type": "IndexError", "message": "list index out of range"},
    )
    assert [one.ename for cell in done.cells for one in cell.get("outputs", [])] == [
        "ZeroDivisionError",
        "IndexError",
    ]


def test_a_cell_to_be_skipped_is_no_cell(tmp_path: Path) -> None:
    done = execute(
        tmp_path,
        "k = 1",
        "1 / 0",
        "",
        "import os\nos._exit(3)",
        tags={1: ["skip-execution"]},
        watch_bars=True,
    )
    assert (done.code, done.error and done.error["cell"], done.error and done.error["type"]) == (
        *(1, 2),
        "DeadKernelError",
    )
    assert done.said["progress"]["total"] == 2
    assert [cell.get("execution_count") for cell in done.cells[1:4]] == [1, None, None]


def test_messages_that_are_lost_after_all_are_reported(tmp_path: Path) -> None:
    lose = "import sys\nprint('one', flush=True)\nsys.stdout.pub_thread.socket._sent += 2\nprint('two')"
    done = execute(tmp_path, "k = 1", lose)
    said = "2 of the kernel's messages were lost here; text, pictures or tables may be missing."
    assert done.code == 0
    assert said in done.log
    assert said in [one.data["text/plain"].strip("[]") for one in done.cells[2].outputs if "data" in one]
    assert (tmp_path / "out" / "output-note.txt").read_text() == "2 of the kernel's messages were lost.\n"


def test_the_kernel_of_another_environment_is_said(tmp_path: Path) -> None:
    done = execute(
        tmp_path, "k = 1", kernelspec={"name": "my-env", "display_name": "x", "language": "python"}
    )
    assert done.code == 0
    assert "with the kernel 'my-env', which is not installed here; as a job it runs in Python" in done.log


def test_every_job_type_has_its_notebook() -> None:
    assert set(shipped.JOB_NOTEBOOKS) == {*JOB_METHODS, DATA_CHECK}
    for kind in shipped.JOB_NOTEBOOKS:
        path = shipped.job_notebook(kind)
        more = {"fail_below"} if kind == "eval" else set()
        assert {"adapter", "options", "workspace"} | more == {
            found.name for found in declared_parameters(path)
        }
    with pytest.raises(wb.NotFound, match="train"):
        shipped.job_notebook("dance")


@pytest.mark.parametrize("kind", shipped.JOB_NOTEBOOKS)
def test_a_job_notebook_is_a_page_for_people(kind: str) -> None:
    page = nbformat.read(shipped.job_notebook(kind), as_version=4)
    nbformat.validate(page)
    assert page.cells[0].cell_type == "markdown"
    assert page.cells[0].source.startswith("# ")
    assert page.metadata.kernelspec.name == "python3"
    for cell in page.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)
    assert f'wb.job_scope("{kind}"' in "".join(cell.source for cell in page.cells)


def test_the_notebooks_of_an_installed_package_lie_inside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site-packages" / "workbench"
    (package.parent / "notebooks").mkdir(parents=True)  # somebody else's
    monkeypatch.setattr(shipped, "__file__", str(package / "notebooks" / "shipped.py"))
    assert shipped.generic_folder() == package / "notebooks" / "generic"
    assert shipped.notebooks_folder() == package / "_notebooks"
    with pytest.raises(wb.NotFound, match="Reinstall"):
        shipped.job_notebook("eval")


# Processes, which all of this stands on -------------------------------------------------------------


def test_a_process_is_known_by_its_start_too() -> None:
    me = processes.this_process()
    assert processes.alive(*me)
    assert not processes.alive(me.pid, "1")
    assert not processes.alive(me.pid, "")
    assert not processes.alive(None, me.started)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    when = processes.started(gone.pid)
    gone.wait()
    assert not processes.alive(gone.pid, when)


def test_killing_a_family_reaches_those_who_left_it(tmp_path: Path) -> None:
    # A grandchild in a session of its own, whose parent is gone: only its token tells where it came from.
    orphan = "import os, subprocess; subprocess.Popen(['sleep', '600'], start_new_session=True); os._exit(0)"
    program = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {orphan!r}])\n"
        "print('ready', flush=True); input()"
    )
    environment = {**os.environ, processes.TOKEN: "test-token-1"}
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        root = processes.Process(parent.pid, processes.started(parent.pid))
        found = processes.family(root, "test-token-1")
        assert len(found) == 2
        assert processes.kill_family(root, "test-token-1") == []
    assert not any(processes.alive(*process) for process in found)
