"""What the routes do by which a run is logged, and its files are kept, from another machine.

A batch of points has a number: one that is sent again, since the answer to it was lost, changes nothing. A
file is taken whole or not at all, and reaches its place by a checked name only.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from workbench import wire
from workbench.errors import BadInput, BadName, TooLarge, WrongState
from workbench.host import files
from workbench.jobs import queue, submission
from workbench.runs.description import check_experiment, check_metric_name, check_notes, direction_of
from workbench.runs.kept_files import ARTIFACTS, CHECKPOINTS
from workbench.runs.run import Run
from workbench.server import run_models
from workbench.server.desk import WorkbenchServer
from workbench.store import records
from workbench.store.points import Batch
from workbench.values import plain
from workbench.workspace import Workspace

if TYPE_CHECKING:
    from workbench.server.routes import Call


class FileToSend(NamedTuple):
    """A file that is the answer."""

    file: BinaryIO
    name: str
    size: int


# Runs ------------------------------------------------------------------------------------------


def run_json(run: Run) -> dict[str, Any]:
    """Return a run as plain JSON, without its metrics."""
    return {
        "id": run.id,
        "name": run.name,
        "experiment": run.experiment,
        "status": run.status,
        "config": run.config,
        "tags": run.tags,
        "directions": [list(pair) for pair in run.directions],
        "job_id": run.job_id,
        "error": run.error,
        "created_at": run.created_at.isoformat(),
        "finished_at": None if run.finished_at is None else run.finished_at.isoformat(),
    }


def whole_json(run: Run) -> dict[str, Any]:
    """Return a run as plain JSON with all that only its own page shows."""
    same = ("notes", "seed", "git", "environment", "origin")
    return {**run_json(run), **{name: getattr(run, name) for name in same}}


def _run(home: Workspace, call: Call) -> Run:
    return home.run(call.path["run_id"])  # type: ignore[arg-type]  # it says what is wrong with it


async def get_run(desk: WorkbenchServer, call: Call) -> Any:
    """Return one run."""
    return await desk.run(lambda home: whole_json(_run(home, call)))


async def get_outcome(desk: WorkbenchServer, call: Call) -> Any:
    """Return what a run has come to."""
    return await desk.run(lambda home: {"outcome": _run(home, call).outcome})


async def start_run(desk: WorkbenchServer, call: Call) -> Any:
    """Add a run that is logged from elsewhere."""
    given: run_models.RunIn = call.body

    def start(home: Workspace) -> Any:
        experiment = check_experiment(given.experiment)
        try:
            described = {name: plain(getattr(given, name), name) for name in _JSON_COLUMNS}
        except RecursionError:
            raise BadInput("the run's description nests too deeply") from None
        row = records.Run(
            experiment_id=0,
            name=given.name.strip(),
            notes=check_notes(given.notes),
            seed=given.seed,
            directions=[[pattern, way] for pattern, way in given.better.items()],
            job_id=given.job_id,
            **described,
        )
        if given.created_at is not None:
            row.created_at = given.created_at
        row = home.store.add_sent_run(row, experiment, given.key)
        _heard(home, row.id or 0)
        return whole_json(home._handle(row, home._experiment_names()))

    return await desk.run(start)


_JSON_COLUMNS = ("config", "tags", "git", "environment")


def _heard(home: Workspace, run_id: int) -> None:
    if home.hearing is not None:
        home.hearing.heard(run_id)


async def add_points(desk: WorkbenchServer, call: Call) -> Any:
    """Keep a batch of points, or note a sign of life."""
    given: run_models.PointsIn = call.body

    def add(home: Workspace) -> Any:
        batches = {name: _batch(name, columns) for name, columns in given.points.items()}
        run = _run(home, call)
        better = {(run.id, name): direction_of(name, run.directions) for name in batches}
        received = home.store.take_batch(run.id, given.key, given.number, batches, better)
        _heard(home, run.id)
        return {"run_id": run.id, "received": received}

    return await desk.run(add)


def _batch(name: str, columns: run_models.ColumnsIn) -> Batch:
    check_metric_name(name)
    lengths = {len(columns.steps), len(columns.times), len(columns.values)}
    if len(lengths) != 1:
        raise BadInput(f"steps, times and values of metric {name!r} differ in length")
    return Batch(columns.steps, columns.times, [wire.number_from(value) for value in columns.values])


async def end_run(desk: WorkbenchServer, call: Call) -> Any:
    """End a run; one that is over stays as it ended."""
    given: run_models.EndIn = call.body

    def end(home: Workspace) -> Any:
        run = _run(home, call)
        error = None if given.error is None else given.error.model_dump()
        home.store.end_run(run.id, given.status, error, finished_at=given.finished_at)
        if home.hearing is not None:
            home.hearing.ended(run.id)
        return whole_json(run.refresh())

    return await desk.run(end)


async def annotate_run(desk: WorkbenchServer, call: Call) -> Any:
    """Write notes, or add tags."""
    given: run_models.NotesIn = call.body

    def annotate(home: Workspace) -> Any:
        try:
            return whole_json(_run(home, call).annotate(notes=given.notes, tags=given.tags))
        except RecursionError:
            raise BadInput("the tags nest too deeply") from None

    return await desk.run(annotate)


# Files -----------------------------------------------------------------------------------------


async def expect_file(desk: WorkbenchServer, call: Call) -> Any:
    """Raise where a file is not wanted, before any of it is read."""
    kind = "checkpoint" if isinstance(call.query, run_models.CheckpointQuery) else "artifact"
    files.check_file_name(call.path["name"], kind)
    await desk.run(lambda home: _run(home, call))


async def put_checkpoint(desk: WorkbenchServer, call: Call) -> Any:
    """Keep a checkpoint that was sent."""
    given: run_models.CheckpointQuery = call.query

    def keep(home: Workspace) -> Any:
        run, name = _taking(home, call, CHECKPOINTS), call.path["name"]
        more: Any = {"keep_best": given.keep_best, "metric": given.metric}
        kept = run.log_checkpoint(name, call.body.path, given.step, **more)
        return {"run_id": run.id, "name": name, "kept": kept is not None}

    return await desk.run(keep)


async def put_artifact(desk: WorkbenchServer, call: Call) -> Any:
    """Keep an artifact that was sent."""

    def keep(home: Workspace) -> Any:
        run, name = _taking(home, call, ARTIFACTS), call.path["name"]
        run.log_artifact(name, call.body.path)
        return {"run_id": run.id, "name": name, "kept": True}

    return await desk.run(keep)


def _taking(home: Workspace, call: Call, kind: str) -> Run:
    """Return the run that takes a file away from where it arrived, once that is whole."""
    run = _run(home, call)
    if run.folder.is_symlink() or (run.folder / kind).is_symlink():
        raise WrongState(f"the folder of run {run.id} leads elsewhere: nothing is written there")
    call.body.check(call.query.sha256)
    return run.taking()


async def get_checkpoint(desk: WorkbenchServer, call: Call) -> Any:
    """Return the bytes of a checkpoint."""
    return await desk.run(lambda home: _opened(_run(home, call).checkpoint(call.path["name"])))


async def get_artifact(desk: WorkbenchServer, call: Call) -> Any:
    """Return the bytes of an artifact."""
    return await desk.run(lambda home: _opened(_run(home, call).artifact(call.path["name"])))


def _opened(kept: Any) -> FileToSend:
    file = kept.open()
    size = file.seek(0, 2)  # what is open now, whatever takes its place meanwhile
    file.seek(0)
    return FileToSend(file, kept.name, size)


async def list_artifacts(desk: WorkbenchServer, call: Call) -> Any:
    """Return a run's artifacts, oldest first."""

    def look(home: Workspace) -> Any:
        return {
            "artifacts": [
                {"name": file.name, "size": file.size, "created_at": file.created_at.isoformat()}
                for file in _run(home, call).artifacts()
            ]
        }

    return await desk.run(look)


# Notebooks -------------------------------------------------------------------------------------


async def submit_notebook(desk: WorkbenchServer, call: Call) -> Any:
    """Queue a notebook that was sent; it is executed in the folder that the server runs in."""
    given: run_models.NotebookIn = call.body
    files.check_file_name(given.name, "notebook")
    if not given.name.endswith(".ipynb"):
        raise BadName(f"notebook {given.name!r} has no name of one", hint="It ends in .ipynb.")

    def submit(home: Workspace) -> Any:
        data = given.notebook.encode()
        if len(data) > run_models.NOTEBOOK_BYTES:
            most = run_models.NOTEBOOK_BYTES // 2**20
            raise TooLarge(f"the notebook has over {most} MiB", hint="Clear its outputs and send it again.")
        check_notebook(given.notebook)
        with tempfile.TemporaryDirectory(prefix=".sent-", dir=home.jobs_dir) as folder:
            path = Path(folder) / given.name
            path.write_bytes(data)
            try:
                job = submission.submit_notebook(
                    home, path, given.parameters, source=given.name, cwd=str(Path.cwd())
                )
            except BadInput as error:  # who sent it knows nothing of the folder
                error.message = error.message.replace(str(path), given.name)
                raise
        return job.to_json()

    return await desk.run(submit)


def check_notebook(text: str) -> None:
    """Raise unless a text is a notebook.

    Raises
    ------
    BadInput
        It is no JSON, or no notebook of a format that is known.
    """
    import nbformat

    try:
        page = json.loads(text)
        if not isinstance(page, dict) or page.get("nbformat") != 4:
            raise BadInput("it is not a notebook of format 4", hint="Save it again in JupyterLab.")
        nbformat.validate(page)
    except RecursionError:
        raise BadInput("the notebook nests too deeply") from None
    except (ValueError, nbformat.ValidationError) as error:
        if isinstance(error, BadInput):
            raise
        said = str(error).strip().split("\n")[0][:300]
        raise BadInput(f"it cannot be read as a notebook: {said}") from None


async def retry_job(desk: WorkbenchServer, call: Call) -> Any:
    """Queue the same again; what an adapter takes is asked of the search service, and never here."""

    def look(home: Workspace) -> Any:
        job = home.job(call.path["job_id"])  # type: ignore[arg-type]
        if not job.source:
            return job.refresh()._row
        return job.retry().to_json()

    found = await desk.run(look)
    if isinstance(found, dict):
        return found
    queue.check_over(found)
    question = {"adapter": found.adapter, "type": found.type, "options": found.options}
    checked = await desk.ask(op="check", **question)
    return await desk.run(
        lambda home: submission.submit_checked(
            home, found.type, checked["adapter"], checked["options"], fail_below=found.floors
        ).to_json()
    )
