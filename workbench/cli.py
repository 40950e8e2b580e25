"""The command ``workbench``.

Exit codes: 0 done, 1 failed, 2 wrong use, 75 cancelled. With ``--json`` standard output is one JSON document
and nothing else; progress and words for people go to standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

# What the parser needs; all that is heavy is imported by the command that needs it.
from workbench.errors import BadInput, JobCancelled, NotFound, NotSupported, WorkbenchError

if TYPE_CHECKING:
    from rich.table import Table

    from workbench.jobs import Job
    from workbench.workspace import Workspace

DONE, FAILED, WRONG_USE, CANCELLED = 0, 1, 2, 75

# The commands --------------------------------------------------------------------------------------


def _demo(home: Workspace, given: argparse.Namespace) -> int:
    from workbench.adapter import get_adapter
    from workbench.demo import headlines, run_demo

    adapter = get_adapter(given.adapter)
    say = _err if given.json else print
    say(f"{adapter.title or adapter.name}: the whole way, in {home.path}")
    outcome = run_demo(home, adapter, options=_options_by_type(given), say=say)
    if given.json:
        _out(outcome)
    else:
        shown = headlines([home.job(job["id"]) for job in outcome["jobs"]])
        if shown:
            _print_table(("metric", "value"), [(k, f"{v:.4g}") for k, v in shown.items()])
        print("Notebooks, each the report of its job:")
        for job in outcome["jobs"]:
            print(f"  {job['type']:<12} {job['notebook']}")
    if given.serve and outcome["index"]["name"]:
        return _serve_index(home, outcome["index"]["name"], given.port, given.open)
    return DONE


def _jobs_submit(home: Workspace, given: argparse.Namespace) -> int:
    if given.type.endswith(".ipynb"):
        if given.adapter or given.fail_below:
            raise BadInput("a notebook of your own has neither --adapter nor --fail-below")
        job = home.submit_notebook(given.type, _parameters(given))
    else:
        job = home.submit(given.type, given.adapter, _options(given), fail_below=given.fail_below)
    code = DONE
    if given.wait:
        code = _follow(job)
    if given.json:
        _out(job.to_json())
    else:
        print(f"job {job.id}: {job.status}{f', {job.summary}' if job.summary else ''}")
        if job.notebook:
            print(job.notebook)
        if not given.wait:
            print(f"Follow it with: workbench jobs show {job.id}")
    return code


def _follow(job: Job) -> int:
    from workbench.progress import JobProgress

    try:
        with JobProgress() as shown:
            job.wait(on_progress=shown)
    except KeyboardInterrupt:
        _err(f"job {job.id} goes on; stop it with: workbench jobs cancel {job.id}")
        raise
    except JobCancelled as error:
        _complain(error)
        return CANCELLED
    except WorkbenchError as error:
        _complain(error)
        return FAILED
    return DONE


def _jobs_list(home: Workspace, given: argparse.Namespace) -> int:
    jobs = home.jobs(type=given.type, status=given.status, limit=given.limit, offset=given.offset)
    if given.json:
        _out({"jobs": [job.to_json(result=False) for job in jobs]})
        return DONE
    rows = [
        (
            str(job.id),
            job.type,
            job.adapter or Path(job.source).name,
            job.status,
            _share(job),
            _took(job.seconds),
            _outcome(job),
        )
        for job in jobs
    ]
    empty = "No job yet. Submit one with: workbench jobs submit TYPE"
    _print_table(("id", "type", "adapter", "status", "done", "took", ""), rows, empty=empty)
    return DONE


def _jobs_show(home: Workspace, given: argparse.Namespace) -> int:
    job = home.job(given.id)
    if given.json:
        _out(job.to_json())
        return DONE
    about = {
        "job": f"{job.id}, {job.type} ({job.adapter or job.source})",
        "status": f"{job.status} {_share(job)}".strip(),
        "submitted": job.created_at.astimezone().strftime("%F %T"),
        "took": _took(job.seconds),
        "options": json.dumps(job.options, ensure_ascii=False),
        "says": job.progress.message,
        "result": job.summary,
        "error": _outcome(job) if job.error else "",
        "run": str(job.run_id or ""),
        "notebook": str(job.notebook or ""),
    }
    for name, value in about.items():
        if value:
            print(f"{name:<10} {value}")
    if job.result and job.result.metrics:
        _print_table(("metric", "value"), [(k, f"{v:.4g}") for k, v in job.result.metrics.items()])
    for warning in job.result.warnings if job.result else ():
        print(f"warning: {warning}")
    return DONE


def _jobs_logs(home: Workspace, given: argparse.Namespace) -> int:
    job = home.job(given.id)
    if given.follow:
        if given.json:
            raise BadInput("--follow and --json do not go together: one document cannot grow")
        for line in job.follow_logs():
            print(line, flush=True)
        return DONE
    log = job.logs(given.tail)
    if given.json:
        _out({"id": job.id, "lines": log.splitlines()})
    else:
        sys.stdout.write(log)
    return DONE


def _jobs_cancel(home: Workspace, given: argparse.Namespace) -> int:
    job = home.job(given.id).cancel()
    if given.json:
        _out(job.to_json(result=False))
    else:
        print(f"job {job.id}: {job.status}")
    return DONE


def _worker(home: Workspace, given: argparse.Namespace) -> int:
    from workbench.worker import Worker

    if given.slots < 1:
        raise BadInput(f"--slots {given.slots}: at least 1 is wanted")
    _err(f"worker for {home.path}, {given.slots} at once; stop it with Ctrl-C")
    worker = Worker(home, slots=given.slots)
    worker.run()
    if given.json:
        _out({"worker": worker.id, "workspace": str(home.path)})
    return DONE


def _runs(home: Workspace, given: argparse.Namespace) -> int:
    runs = home.runs(given.experiment)
    if given.json:
        _out(
            {
                "runs": [
                    {
                        "id": run.id,
                        "name": run.name,
                        "experiment": run.experiment,
                        "status": run.status,
                        "job_id": run.job_id,
                        "created_at": run.created_at.isoformat(),
                        "notes": run.notes,
                        "config": run.config,
                        "summary": run.summary,
                    }
                    for run in runs
                ]
            }
        )
        return DONE
    rows = []
    for run in runs:
        numbers = [
            f"{name}={row['last']:.4g}" for name, row in run.summary.items() if row["last"] is not None
        ]
        notes = run.notes.partition("\n")[0]
        rows.append((str(run.id), run.experiment, run.name, run.status, ", ".join(numbers[:4]), notes))
    _print_table(("id", "experiment", "name", "status", "last", "notes"), rows, empty="No run yet.")
    return DONE


def _compare(home: Workspace, given: argparse.Namespace) -> int:
    comparison = home.compare(given.run)
    if given.json:
        _out(comparison.to_json())
        return DONE
    heads = [f"{run.id} {run.name}" for run in comparison.runs]
    settings = [(row.key, *row.texts) for row in comparison.differences]
    if settings:
        _print_table(("differs", *heads), settings)
    arrows = {"higher": " ↑", "lower": " ↓"}
    finals = [
        (
            f"{row.name}{arrows.get(row.better or '', '')}",
            *(f"🏆 {text}" if best else text for text, best in zip(row.texts, row.best, strict=True)),
        )
        for row in comparison.final
    ]
    _print_table(("final", *heads), finals, empty="No metric was logged.")
    return DONE


def _search(home: Workspace, given: argparse.Namespace) -> int:
    name = given.index
    if not name:
        names = home.index_names()
        if len(names) > 1:
            raise BadInput(f"which index? There are: {', '.join(names)}", hint="Name it with --index.")
        name = names[0] if names else ""
    searcher = home.open_search(name)
    options = _options(given)
    if given.what == "text":
        result = searcher.by_text(given.query, given.k, **options)
    else:
        try:
            data = Path(given.query).read_bytes()
        except OSError as error:
            raise BadInput(f"{given.query!r} cannot be read: {error.strerror or error}") from None
        result = searcher.by_image(data, given.k, **options)
    if given.json:
        hits = [
            {"id": hit.id, "score": hit.score, "distance": hit.distance, "caption": hit.caption}
            for hit in result
        ]
        _out({"hits": hits, "took_ms": result.took_ms})
        return DONE
    rows = [(hit.label or f"{hit.score:.3f}", hit.caption, hit.subtitle, hit.id) for hit in result]
    _print_table(("score", "caption", "", "id"), rows, empty="Nothing was found.")
    if result.note:
        print(result.note)
    return DONE


def _serve(home: Workspace, given: argparse.Namespace) -> int:
    names = home.index_names()
    if given.index and given.index not in names:
        from workbench.errors import UnknownIndex

        raise UnknownIndex(given.index, names)
    return _serve_index(home, given.index, given.port, given.open)


def _serve_index(home: Workspace, index: str | None, port: int, open_browser: bool) -> int:
    from workbench import voila

    # Being told to end is as good as Ctrl-C: the server and its kernels must not stay behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    process, url = voila.serve(home.path, index, port, open_browser)
    _err(f"The search page is at {url}\nStop it with Ctrl-C.")
    try:
        return FAILED if process.wait() else DONE
    except KeyboardInterrupt:
        return DONE
    finally:
        process.terminate()
        process.wait()


def _doctor(home: Workspace, given: argparse.Namespace) -> int:
    from workbench.doctor import examine

    report = examine(home)
    if given.json:
        _out(report)
    else:
        for name, value in report["found"].items():
            print(f"{name:<12} {value}")
        for problem in report["problems"]:
            print(f"wrong: {problem}")
        if not report["problems"]:
            print("Nothing is wrong.")
    return FAILED if report["problems"] else DONE


def _import(home: Workspace, given: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("runs", total=None)

        def say(done: int, total: int, points: int) -> None:
            bar.update(task, completed=done, total=total, description=f"runs, {points:,} points")

        if given.tool == "mlflow":
            brought = home.import_mlflow(given.source, say)
        else:
            brought = home.import_tensorboard(given.source, given.experiment, say)
    if given.json:
        _out(brought._asdict())
        return DONE
    print(
        f"{brought.new} new, {brought.changed} continued, {brought.unchanged} unchanged; "
        f"{brought.points:,} new points"
    )
    for what, number in brought.passed_over.items():
        if number:
            print(f"not brought: {what} ({number})")
    return DONE


# Words for people, and for machines -----------------------------------------------------------------


def _out(document: Any) -> None:
    print(json.dumps(document, ensure_ascii=False, indent=2))


def _err(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _complain(error: WorkbenchError) -> None:
    _err(f"error: {error.message}")
    if error.hint:
        _err(error.hint)


def _print_table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str = "") -> None:
    if not rows:
        print(empty)
        return
    from rich.console import Console

    # Where nobody's terminal cuts the lines, nothing is cut.
    width = None if sys.stdout.isatty() else 10_000
    Console(width=width, highlight=False).print(_table(heads, rows))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in heads:
        table.add_column(Text(head), overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _share(job: Job) -> str:
    fraction = job.progress.fraction
    return "" if fraction is None or job.done else f"{fraction:.0%}"


def _took(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f} s"


def _outcome(job: Job) -> str:
    error = job.error
    if not error or job.status not in ("failed", "queued"):
        return job.summary or job.progress.message
    where = f"cell [{error['cell']}] " if error.get("cell") else ""
    return f"{where}{error.get('type')}: {str(error.get('message', '')).splitlines()[0]}"


def _options_by_type(given: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return ``--option TYPE.k=v …`` by job type."""
    out: dict[str, dict[str, Any]] = {}
    for name, value in _options(given).items():
        kind, dot, option = name.partition(".")
        if not dot or not option:
            raise BadInput(f"--option {name}=…: TYPE.name=value is wanted", hint="Such as train.steps=100.")
        out.setdefault(kind, {})[option] = value
    return out


def _options(given: argparse.Namespace) -> dict[str, Any]:
    """Return ``--option k=v …``: a value that is JSON counts as that, any other as text."""
    out: dict[str, Any] = {}
    for pair in given.option:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise BadInput(f"--option {pair!r}: name=value is wanted", hint="Such as --option k=3.")
        try:
            out[name] = json.loads(value)
        except ValueError:
            out[name] = value
    return out


def _parameters(given: argparse.Namespace) -> dict[str, Any]:
    """Return the options as a notebook's parameters: what it declares as text stays as it was typed."""
    from workbench.jobs import local_notebook
    from workbench.parameters import declared_parameters

    declared = {one.name: one.type for one in declared_parameters(local_notebook(given.type))}
    typed = dict(pair.partition("=")[::2] for pair in given.option)
    read = _options(given)
    return {name: typed[name] if declared.get(name) == "str" else value for name, value in read.items()}


# The parser -------------------------------------------------------------------------------------------


def _everywhere(parser: argparse.ArgumentParser, *, first: bool = False) -> None:
    """Take ``--workspace`` and ``--json`` before a command as well as after it."""
    said = None if first else argparse.SUPPRESS
    parser.add_argument(
        "--workspace", metavar="DIR", default=said, help="folder of results ($WORKBENCH_HOME, or ./results)"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        default=False if first else argparse.SUPPRESS,
        help="one JSON document on standard output, and nothing else",
    )


def _command(commands: Any, name: str, call: Any, about: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=about, description=about)
    _everywhere(parser)
    parser.set_defaults(call=call)
    return parser


def _takes_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--option",
        "-o",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the adapter's; the value is read as JSON where it is JSON",
    )


def _takes_port(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--open", action="store_true", help="open it in a browser")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    from workbench import __version__

    about = "Launch, watch and compare training jobs, search what they made, publish the search."
    parser = argparse.ArgumentParser(prog="workbench", description=about)
    parser.add_argument("--version", action="version", version=f"workbench {__version__}")
    _everywhere(parser, first=True)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    demo = _command(commands, "demo", _demo, "Train, evaluate, index and publish a search, on real data.")
    demo.add_argument("--adapter", metavar="A", help="model family; the only one installed if not given")
    demo.add_argument(
        "--option",
        metavar="TYPE.K=V",
        action="append",
        default=[],
        help="an option of one of its jobs, such as train.steps=100; may be given more than once",
    )
    demo.add_argument("--no-serve", dest="serve", action="store_false", help="stop before the page")
    _takes_port(demo)

    jobs = commands.add_parser("jobs", help="Submit, list, show and cancel jobs.").add_subparsers(
        title="commands", required=True, metavar="COMMAND"
    )
    submit = _command(jobs, "submit", _jobs_submit, "Queue a job; a worker runs its notebook.")
    submit.add_argument(
        "type",
        metavar="TYPE",
        help="train, eval, index_build, another of the adapter's, or the path of a notebook of your own, "
        "whose parameters --option gives",
    )
    submit.add_argument(
        "--fail-below", metavar="JSON", help="""fail unless the result reaches this: '{"R@10": 0.35}'"""
    )
    submit.add_argument("--adapter", metavar="A", help="model family; the only one installed if not given")
    submit.add_argument("--wait", action="store_true", help="show its progress and return when it has ended")
    _takes_options(submit)
    listed = _command(jobs, "list", _jobs_list, "List jobs, newest first.")
    listed.add_argument("--type", metavar="TYPE")
    listed.add_argument("--status", metavar="STATUS")
    listed.add_argument("--limit", type=int, default=20)
    listed.add_argument("--offset", type=int, default=0)
    for name, call, about in (
        ("show", _jobs_show, "Show one job: its options, its state, its result."),
        ("logs", _jobs_logs, "Print the end of what a job printed."),
        ("cancel", _jobs_cancel, "Cancel a job."),
    ):
        one = _command(jobs, name, call, about)
        one.add_argument("id", metavar="JOB")
        if name == "logs":
            one.add_argument("--tail", type=int, default=200, metavar="LINES")
            one.add_argument(
                "--follow", action="store_true", help="go on as it grows, until the job has ended"
            )

    worker = _command(commands, "worker", _worker, "Run jobs here until stopped.")
    worker.add_argument("--slots", type=int, default=1, metavar="N", help="how many at once")
    runs = _command(commands, "runs", _runs, "List runs, newest first.")
    runs.add_argument("--experiment", metavar="NAME")
    compare = _command(commands, "compare", _compare, "Compare runs: settings that differ, final metrics.")
    compare.add_argument("run", nargs="+", metavar="RUN")

    tools = commands.add_parser("import", help="Bring runs from MLflow or TensorBoard.").add_subparsers(
        title="tools", required=True, metavar="TOOL", dest="tool"
    )
    mlflow = _command(tools, "mlflow", _import, "Bring an MLflow store's runs; again, to continue them.")
    mlflow.add_argument(
        "source",
        metavar="URI",
        help="sqlite:///mlflow.db, another database, folder mlruns, or https://server",
    )
    board = _command(tools, "tensorboard", _import, "Bring runs written for TensorBoard; again, to continue.")
    board.add_argument("source", metavar="DIR", help="what tensorboard --logdir is given")
    board.add_argument("--experiment", metavar="NAME", help="called as the folder if not given")

    search = _command(commands, "search", _search, "Search an index with a text or a picture.")
    search.add_argument("what", choices=("text", "image"))
    search.add_argument("query", metavar="QUERY", help="words, or the path of a picture")
    search.add_argument("--index", metavar="NAME", help="the only one if not given")
    search.add_argument("-k", type=int, default=10, help="how many hits")
    _takes_options(search)

    serve = _command(commands, "serve", _serve, "Publish the search page.")
    serve.add_argument("--index", metavar="NAME", help="the index it opens with")
    _takes_port(serve)
    _command(commands, "doctor", _doctor, "Say what is installed, where things are, and what is wrong.")
    return parser


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    given = make_parser().parse_args(arguments)
    try:
        from workbench.workspace import Workspace

        with Workspace(given.workspace) as home:
            code: int = given.call(home, given)
            return code
    except WorkbenchError as error:
        if given.json:
            about = {"type": type(error).__name__, "message": error.message, "hint": error.hint}
            _out({"error": about})
        _complain(error)
        if isinstance(error, JobCancelled):
            return CANCELLED
        return WRONG_USE if isinstance(error, (BadInput, NotFound, NotSupported)) else FAILED
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


def main() -> None:
    """Run the command line; the entry point ``workbench``."""
    sys.exit(run())


if __name__ == "__main__":
    main()
