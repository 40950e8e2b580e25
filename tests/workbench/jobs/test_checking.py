"""What is checked before a job is queued or begins: all of it at once, and nothing is left behind."""

from __future__ import annotations

import copy
from typing import Any

import pytest

import workbench as wb
from workbench.jobs import submission
from workbench.jobs.checking import check_beginning


def careful(toy: wb.BaseAdapter) -> wb.BaseAdapter:
    """The toy, with a run that must exist and metrics that it knows beforehand."""

    class Careful(type(toy)):  # type: ignore[misc]
        def find_problems(self, task: str, options: Any, workspace: wb.WorkspaceView) -> Any:
            if options.run is not None:
                try:
                    workspace.run(options.run)
                except wb.UnknownRun as error:
                    yield "run", error.message
            if "/" in options.name:
                yield "name", f"not a name: {options.name}"

        def metric_names(self, task: str, options: Any) -> list[str]:
            return [f"R@{options.k}", "per/*/R"]

    return Careful()


WRONG = {"run": 99999, "name": "../../x"}


def test_everything_that_is_wrong_is_found_at_once(workspace: wb.Workspace, toy: wb.BaseAdapter) -> None:
    with pytest.raises(wb.BadOptions) as raised:
        check_beginning(careful(toy), "eval", WRONG, workspace, floors={"R@4": 0.1, "per/ko/R": 0})
    assert [option for option, _ in raised.value.problems] == ["run", "name", "fail_below"]
    assert "no run 99999: there are no runs yet" in raised.value.message
    assert "no metric 'R@4'; did you mean 'R@3'?" in raised.value.message


def test_a_job_that_cannot_begin_is_not_queued(workspace: wb.Workspace, toy: wb.BaseAdapter) -> None:
    with pytest.raises(wb.BadOptions, match="no run 99999"):
        workspace.submit("eval", careful(toy), WRONG)
    with pytest.raises(wb.BadOptions, match="no metric 'R@4'"):
        workspace.submit("eval", careful(toy), fail_below='{"R@4": 0.1}')
    with (
        pytest.raises(wb.BadOptions, match="no run 99999"),
        wb.job_scope("eval", careful(toy), WRONG, workspace=workspace),
    ):
        raise AssertionError("it began")
    assert workspace.jobs() == []
    assert not list(workspace.path.glob(".worker*.lock"))


def test_what_is_right_is_queued(workspace: wb.Workspace, toy: wb.BaseAdapter) -> None:
    with workspace.start_run("e") as run:
        pass
    job = submission.submit(
        workspace, "eval", careful(toy), {"run": run.id, "k": 4}, fail_below={"R@4": 0.1}, start_worker=False
    )
    assert (job.floors, job.options["run"]) == ({"R@4": 0.1}, run.id)


def test_a_retry_is_checked_again(
    workspace: wb.Workspace, toy: wb.BaseAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submission.submit(workspace, "eval", toy, WRONG, start_worker=False)
    job.cancel()
    monkeypatch.setattr("workbench.jobs.local.get_adapter", lambda name: copy.copy(careful(toy)))
    with pytest.raises(wb.BadOptions, match="no run 99999"):
        job.retry()
    assert len(workspace.jobs()) == 1
