"""Order over HTTP: rename, move, archive, restore and delete runs, experiments, jobs and indexes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, Field

from workbench.errors import UnknownExperiment
from workbench.home import as_id
from workbench.runs import experiments
from workbench.server.api.fields import Given, Name
from workbench.server.api.route import Call, id_in_path
from workbench.server.api.run_logging import Key, Step, heard
from workbench.server.api.runs import experiment_json, run_in_path, whole_json
from workbench.server.desk import WorkbenchServer
from workbench.workspace import Workspace


class NameIn(Given):
    """A new name."""

    name: Annotated[Name, Field(min_length=1)]


class ExperimentIn(Given):
    """The experiment to move to."""

    experiment: Annotated[str, Field(min_length=1, max_length=1000)] = Field(description="Created if new.")


class ResumeIn(Given):
    """From where a run goes on, and who logs it."""

    key: Key
    step: Step | None = Field(
        None, description="Points at higher steps are set aside, in a new archived run."
    )


class DeletedOut(BaseModel):
    """What was deleted."""

    deleted: dict[str, int] = Field(description="How many of what, and the bytes of files.")


class IndexNameOut(BaseModel):
    """An index."""

    name: str


# Runs ------------------------------------------------------------------------------------------


async def _changed(desk: WorkbenchServer, call: Call, change: Callable[[Any], Any]) -> Any:
    return await desk.run(lambda home: whole_json(change(run_in_path(home, call))))


async def rename_run(desk: WorkbenchServer, call: Call) -> Any:
    """Rename a run."""
    return await _changed(desk, call, lambda run: run.rename(call.body.name))


async def move_run(desk: WorkbenchServer, call: Call) -> Any:
    """Move a run to another experiment."""
    return await _changed(desk, call, lambda run: run.move(call.body.experiment))


async def archive_run(desk: WorkbenchServer, call: Call) -> Any:
    """Hide a run from lists."""
    return await _changed(desk, call, lambda run: run.archive())


async def restore_run(desk: WorkbenchServer, call: Call) -> Any:
    """Show an archived run in lists again."""
    return await _changed(desk, call, lambda run: run.restore())


async def delete_run(desk: WorkbenchServer, call: Call) -> Any:
    """Delete a run with its points and files."""
    return await desk.run(lambda home: {"deleted": run_in_path(home, call).delete()})


async def resume_run(desk: WorkbenchServer, call: Call) -> Any:
    """Let a run go on that is logged from another machine; the same key resumes it once."""
    body: ResumeIn = call.body

    def resume(home: Workspace) -> Any:
        run = run_in_path(home, call)
        home.store.resume_run(run.id, body.step, {"host": "", "pid": None, "pid_started": ""}, body.key)
        heard(home, run.id)
        return whole_json(run.refresh())

    return await desk.run(resume)


# Experiments -----------------------------------------------------------------------------------


def _number(home: Workspace, call: Call) -> int:
    number = as_id(call.path["experiment_id"])
    if number is None:
        raise UnknownExperiment(call.path["experiment_id"], [one.id for one in home.store.experiments()])
    return number


async def rename_experiment(desk: WorkbenchServer, call: Call) -> Any:
    """Rename an experiment."""
    name = call.body.name
    return await desk.run(
        lambda home: experiment_json(experiments.rename_experiment(home.store, _number(home, call), name))
    )


def _archiving(archived: bool) -> Any:
    async def archive(desk: WorkbenchServer, call: Call) -> Any:
        def change(home: Workspace) -> Any:
            number = _number(home, call)
            return experiment_json(experiments.archive_experiment(home.store, number, archived=archived))

        return await desk.run(change)

    return archive


archive_experiment, restore_experiment = _archiving(True), _archiving(False)


async def delete_experiment(desk: WorkbenchServer, call: Call) -> Any:
    """Delete an experiment with its runs."""

    def delete(home: Workspace) -> Any:
        number = _number(home, call)
        return {"deleted": experiments.delete_experiment(home.store, number, home.runs_dir)}

    return await desk.run(delete)


# Jobs ------------------------------------------------------------------------------------------


async def rename_job(desk: WorkbenchServer, call: Call) -> Any:
    """Name a job."""
    name = call.body.name
    return await desk.run(lambda home: home.job(id_in_path(call, "job_id")).rename(name).to_json())


async def archive_job(desk: WorkbenchServer, call: Call) -> Any:
    """Hide a job that has ended from lists."""
    return await desk.run(lambda home: home.job(id_in_path(call, "job_id")).archive().to_json())


async def restore_job(desk: WorkbenchServer, call: Call) -> Any:
    """Show an archived job in lists again."""
    return await desk.run(lambda home: home.job(id_in_path(call, "job_id")).restore().to_json())


async def delete_job(desk: WorkbenchServer, call: Call) -> Any:
    """Delete a job that has ended."""
    return await desk.run(lambda home: {"deleted": home.job(id_in_path(call, "job_id")).delete()})


# Indexes ---------------------------------------------------------------------------------------


async def rename_index(desk: WorkbenchServer, call: Call) -> Any:
    """Rename an index."""
    name = call.body.name
    return await desk.run(lambda home: {"name": home.rename_index(call.path["name"], name)})


async def archive_index(desk: WorkbenchServer, call: Call) -> Any:
    """Hide an index from lists and searches."""
    return await desk.run(lambda home: {"name": home.archive_index(call.path["name"])})


async def restore_index(desk: WorkbenchServer, call: Call) -> Any:
    """Show an archived index in lists and searches again."""
    return await desk.run(lambda home: {"name": home.restore_index(call.path["name"])})


async def delete_index(desk: WorkbenchServer, call: Call) -> Any:
    """Delete an index with its files."""
    return await desk.run(lambda home: {"deleted": home.delete_index(call.path["name"])})
