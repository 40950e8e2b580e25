import json
import math
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import nbformat
import pytest

import workbench as wb
from tests.waiting import until
from workbench.host import processes
from workbench.jobs import queue, submission, workers
from workbench.jobs.job import Progress
from workbench.jobs.reporting import PROGRESS_SECONDS
from workbench.notebooks import shipped
from workbench.store import records


@pytest.fixture
def queued(workspace: wb.Workspace, toy: wb.BaseAdapter) -> wb.Job:
    """A queued job that no worker comes for."""
    return submission.submit(workspace, "eval", "toy", {"k": 4}, start_worker=False)


# Submitting, looking, cancelling --------------------------------------------------------------------


def test_a_submitted_job_is_queued_with_all_its_options(queued: wb.Job, workspace: wb.Workspace) -> None:
    found = workspace.job(queued.id)
    assert (found.type, found.adapter, found.status, found.attempt) == ("eval", "toy", "queued", 0)
    assert found.options["k"] == 4
    assert found.options["steps"] == 3
    assert found.progress == Progress()
    assert found.progress.fraction is None
    assert (found.result, found.error, found.notebook, found.started_at, found.logs()) == (None,) * 4 + ("",)


@pytest.mark.parametrize(
    ("kind", "options", "error", "says"),
    [
        ("eval", {"k": "many"}, wb.BadOptions, "k: .*'many'"),
        ("eval", {"kk": 1}, wb.BadOptions, "kk: unknown option; did you mean .k."),
        ("eval", [1], wb.BadOptions, "dictionary"),
        ("dance", {}, wb.BadInput, "offers: train, eval, index_build"),
        ("search", {}, wb.BadInput, "job type 'search'"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_queued(
    workspace: wb.Workspace, toy: wb.BaseAdapter, kind: str, options: Any, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        workspace.submit(kind, "toy", options)
    assert workspace.jobs() == []


def test_a_job_type_the_adapter_does_not_offer(workspace: wb.Workspace) -> None:
    class Half(wb.BaseAdapter):
        name = "half"

        def evaluate(self, options: object, job: object) -> wb.Result:
            return wb.Result()

    with pytest.raises(wb.NotSupported, match="'half' does not offer train jobs") as raised:
        workspace.submit("train", Half())
    assert raised.value.hint == "It offers: eval"


def test_cancelling_a_queued_job_is_at_once_and_twice_is_the_same(queued: wb.Job) -> None:
    for _ in range(2):
        assert queued.cancel().status == "cancelled"
    assert queued.finished_at is not None
    with pytest.raises(wb.JobCancelled):
        queued.wait(300)


def test_waiting_says_that_the_job_goes_on(queued: wb.Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "ensure_worker", lambda home: False)
    with pytest.raises(TimeoutError, match=r"queued after 0\.1 s"):
        queued.wait(0.1)


def test_waiting_raises_what_the_job_failed_with(queued: wb.Job, workspace: wb.Workspace) -> None:
    error = {"cell": 3, "type": "ValueError", "message": "bad"}
    workspace.store.move_job(queued.id, expect="queued", to="failed", error=error)
    with pytest.raises(wb.JobFailed, match=r"failed in cell \[3\]: ValueError: bad") as raised:
        queued.wait()
    assert (raised.value.job_id, raised.value.cell) == (queued.id, 3)
    assert queued.wait(check=False).error == error


def test_a_handle_notices_by_itself(queued: wb.Job, workspace: wb.Workspace) -> None:
    assert queued.status == "queued"
    workspace.store.move_job(queued.id, expect="queued", to="cancelled")
    until(lambda: queued.status == "cancelled")


def test_lists_are_filtered_and_paged(workspace: wb.Workspace, toy: wb.BaseAdapter) -> None:
    for kind in ("train", "eval", "eval"):
        submission.submit(workspace, kind, "toy", start_worker=False)
    workspace.job(1).cancel()
    assert [job.id for job in workspace.jobs(status="queued", limit=1)] == [3]
    assert [job.id for job in workspace.jobs(type="train")] == [1]
    assert [job.id for job in workspace.jobs(offset=2)] == [1]
    with pytest.raises(wb.BadInput, match=r"status 'done'.*queued, running"):
        workspace.jobs(status="done")
    with pytest.raises(wb.BadInput, match=r"limit.* at least 0.*=-1"):
        workspace.jobs(limit=-1)


def test_a_job_as_json_is_json(queued: wb.Job) -> None:
    out = json.loads(json.dumps(queued.to_json()))
    assert out["status"] == "queued"
    assert out["progress"] == {
        "done": 0.0,
        "total": None,
        "message": "",
        "stages": [],
        "rate": None,
        "left": None,
        "fraction": None,
    }
    assert out["created_at"].endswith("+00:00")
    assert "result" not in queued.to_json(result=False)


@pytest.mark.parametrize(("done", "total", "fraction"), [(1, 4, 0.25), (5, 4, 1), (-1, 4, 0), (1, 0, None)])
def test_a_fraction_stays_between_nothing_and_all(done: float, total: float, fraction: float | None) -> None:
    assert Progress(done, total).fraction == fraction


def test_the_end_of_a_log_is_read_from_its_end(queued: wb.Job) -> None:
    queued.folder.mkdir(parents=True)
    path = queued.folder / "log.txt"
    lines = [f"줄 {number}" for number in range(20_000)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert queued.logs(3).splitlines() == lines[-3:]
    assert queued.logs(5000).splitlines() == lines[-5000:]
    assert queued.logs(10**6).splitlines() == lines
    assert queued.logs(0) == ""
    path.write_text("x" * 3 * 2**20)  # one line longer than what is looked at
    assert len(queued.logs(1)) <= 2**20


# From inside, by hand -------------------------------------------------------------------------------


def test_by_hand_a_job_makes_its_own_row(workspace: wb.Workspace, toy: wb.BaseAdapter) -> None:
    with wb.job_scope("eval", "toy", '{"k": 3}', workspace=workspace) as scope:
        assert not scope.attached
        assert workspace.job(scope.id).status == "running"
        shown = scope.finish(scope.adapter.evaluate(scope.options, scope))
    job = workspace.job(scope.id)
    assert job.status == "succeeded"
    assert job.result == shown
    assert job.result is not None
    assert job.result.metrics == {"R@3": 0.3}
    assert (job.summary, job.attempt) == ("measured", 1)


def test_by_hand_a_failure_is_kept_and_raised(workspace: wb.Workspace, toy: wb.BaseAdapter) -> None:
    def run() -> None:
        with wb.job_scope("train", toy, workspace=workspace) as scope:
            scope.start_run("e").log({"loss": 1.0})
            raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        run()
    job = workspace.job(1)
    assert job.status == "failed"
    assert job.error == {"cell": None, "type": "ValueError", "message": "bad"}
    assert workspace.run(1).status == "failed"
    assert job.run_id == 1


@pytest.mark.parametrize("options", ['{"k":', "[1]", '{"kk": 1}', "3"])
def test_options_that_do_not_fit_leave_no_row(
    workspace: wb.Workspace, toy: wb.BaseAdapter, options: str
) -> None:
    with pytest.raises(wb.BadOptions):
        wb.job_scope("eval", "toy", options, workspace=workspace).__enter__()
    assert workspace.jobs() == []


def test_a_run_of_a_job_takes_its_options_and_the_adapters_directions(
    workspace: wb.Workspace, toy: wb.BaseAdapter
) -> None:
    with wb.job_scope("train", "toy", {"steps": 4}, workspace=workspace) as scope:
        run = scope.start_run("e", better={"R@1": "lower"})
        run.log({"loss": 1.0, "R@1": 0.1, "R@5": 0.2, "other": 1.0})
    found = workspace.run(run.id)
    assert (found.job_id, found.config["steps"], found.status) == (scope.id, 4, "succeeded")
    ways = {name: row["better"] for name, row in found.summary.items()}
    assert ways == {"loss": "lower", "R@1": "lower", "R@5": "higher", "other": None}


def test_progress_is_written_seldom_and_the_last_one_always(
    workspace: wb.Workspace, toy: wb.BaseAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[float] = []
    update = workspace.store.update_job

    def count(*given: Any, **change: Any) -> Any:
        if "progress_done" in change:
            written.append(change["progress_done"])
        return update(*given, **change)

    monkeypatch.setattr(workspace.store, "update_job", count)
    with wb.job_scope("eval", "toy", workspace=workspace) as scope:
        for done in range(50_000):
            scope.progress(done, 49_999, "encoding images")
    assert written[-1] == 49_999
    job = workspace.job(scope.id)
    assert len(written) <= 2 + (job.seconds or 0) / PROGRESS_SECONDS
    assert job.progress[:3] == (49_999, 49_999, "encoding images")


def test_progress_remembers_the_total_and_says_the_newest(
    workspace: wb.Workspace, toy: wb.BaseAdapter
) -> None:
    with wb.job_scope("eval", "toy", workspace=workspace) as scope:
        scope.progress(1, 8, "a")
        scope.progress(2)
    assert workspace.job(scope.id).progress[:3] == (2, 8, "")


def test_a_cancelled_job_notices_at_its_next_progress(workspace: wb.Workspace, toy: wb.BaseAdapter) -> None:
    def run() -> None:
        with wb.job_scope("eval", "toy", {"seconds": 30}, workspace=workspace) as scope:
            workspace.job(scope.id).cancel()
            scope.adapter.evaluate(scope.options, scope)

    with pytest.raises(wb.JobCancelled):
        run()
    assert workspace.job(1).status == "cancelled"


def test_a_job_returns_a_result_and_nothing_else(workspace: wb.Workspace, toy: wb.BaseAdapter) -> None:
    def run() -> None:
        with wb.job_scope("eval", "toy", workspace=workspace) as scope:
            scope.finish({"R@1": 0.5})  # type: ignore[arg-type]

    with pytest.raises(wb.BadInput, match=r"Toy's eval .*workbench\.Result.* dict"):
        run()
    assert workspace.job(1).status == "failed"


def test_a_result_with_numbers_that_are_none_stays_json(workspace: wb.Workspace, toy: wb.BaseAdapter) -> None:
    view = wb.View(
        kind="curve", title="c", data={"x": [1, 2], "series": [{"name": "a", "y": [math.nan, 1.0]}]}
    )
    with wb.job_scope("eval", "toy", workspace=workspace) as scope:
        scope.finish(wb.Result(metrics={"a": math.nan, "b": 1.0}, views=[view]))
    result = workspace.job(scope.id).result
    assert result is not None
    assert result.metrics == {"b": 1.0}
    assert result.warnings == ["a is nan"]
    assert result.views[0].data["series"][0]["y"] == [None, 1.0]


def test_a_scope_is_used_in_a_with_statement(workspace: wb.Workspace, toy: wb.BaseAdapter) -> None:
    scope = wb.job_scope("eval", "toy", workspace=workspace)
    with pytest.raises(wb.WrongState, match="with"):
        scope.progress(1)


def test_no_thread_stays_behind(workspace: wb.Workspace, toy: wb.BaseAdapter) -> None:
    before = threading.active_count()
    with wb.job_scope("eval", "toy", workspace=workspace) as scope:
        scope.progress(1)
    assert threading.active_count() == before


# From inside, under a worker ------------------------------------------------------------------------


@pytest.fixture
def attached(queued: wb.Job, workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch) -> records.JobRecord:
    """A claimed job, in the environment that a worker makes for its notebook."""
    job = workspace.store.claim_job({"worker_id": "w", "host": "h"}, 60)
    assert job is not None
    for name, value in (("JOB", job.id), ("JOB_ATTEMPT", job.attempt), ("HOME", workspace.path)):
        monkeypatch.setenv(f"WORKBENCH_{name}", str(value))
    return job


def test_under_a_worker_the_scope_is_the_queued_job(
    attached: records.JobRecord, workspace: wb.Workspace
) -> None:
    with wb.job_scope("eval") as scope:
        assert (scope.attached, scope.id, scope.options.k) == (True, attached.id, 4)
        scope.finish(wb.Result(summary="done"))
    job = workspace.job(scope.id)
    assert (job.status, job.summary) == ("running", "done")  # the worker says how it ended
    with wb.job_scope("eval", "toy", workspace=workspace) as second:
        assert not second.attached


def test_a_scope_of_another_type_or_place_makes_its_own_row(
    attached: records.JobRecord, workspace: wb.Workspace, tmp_path: Path
) -> None:
    with wb.job_scope("train", "toy", workspace=workspace) as scope:
        assert not scope.attached
    with wb.job_scope("eval", "toy", workspace=tmp_path / "elsewhere") as scope:
        assert not scope.attached


def test_a_job_given_to_another_attempt_is_not_finished_by_this_one(
    attached: records.JobRecord, workspace: wb.Workspace
) -> None:
    store = workspace.store

    def run() -> None:
        with wb.job_scope("eval", workspace=workspace) as scope:
            assert store.move_job(scope.id, expect="running", to="queued", attempt=1)
            assert store.claim_job({"worker_id": "w2"}, 60) is not None
            scope.finish(wb.Result(summary="stale"))

    with pytest.raises(wb.WrongState, match=r"job \d+ was taken over"):
        run()
    assert store.result(attached.id or 0) is None


def test_plain_papermill_leaves_the_same_records(workspace: wb.Workspace, toy: wb.BaseAdapter) -> None:
    output = workspace.path / "out.ipynb"
    command = [sys.executable, "-m", "papermill", str(shipped.job_notebook("eval")), str(output)]
    command += ["-p", "adapter", "toy", "-p", "options", '{"k": 4}', "-p", "workspace", str(workspace.path)]
    done = subprocess.run([*command, "--no-progress-bar"], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    (job,) = workspace.jobs()
    assert (job.type, job.status, job.options["k"], job.summary) == ("eval", "succeeded", 4, "measured")
    page = output.read_text()
    assert "Recall by k" in page
    assert "image/svg+xml" in page or "<svg" in page or "image/png" in page or "<img" in page


def test_an_attempt_that_was_given_up_does_not_run_by_hand_instead(
    attached: records.JobRecord, workspace: wb.Workspace
) -> None:
    workspace.store.move_job(attached.id or 0, expect="running", to="queued", attempt=1)
    for _ in range(2):  # given back, and then taken by another
        with pytest.raises(wb.WrongState, match=rf"job {attached.id} was taken over"):
            wb.job_scope("eval", workspace=workspace).__enter__()
        workspace.store.claim_job({"worker_id": "w2"}, 60)
    assert len(workspace.jobs()) == 1


def test_an_attempt_that_was_given_up_logs_nothing(
    attached: records.JobRecord, workspace: wb.Workspace
) -> None:
    with wb.job_scope("eval", workspace=workspace) as scope:
        assert scope.start_run("e").status == "running"
        workspace.store.move_job(scope.id, expect="running", to="queued", attempt=1)
        workspace.store.claim_job({"worker_id": "w2"}, 60)
        with pytest.raises(wb.WrongState, match=rf"job {scope.id} was taken over"):
            scope.start_run("e")
    assert len(workspace.runs()) == 1


# What the system refuses ----------------------------------------------------------------------------


def test_a_job_that_nobody_could_run_is_not_queued(
    workspace: wb.Workspace, toy: wb.BaseAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(home: wb.Workspace) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(workers, "_start_worker", refuse)
    with pytest.raises(wb.StoreError, match=r"no worker can be started for .*: No space left on device"):
        workspace.submit("eval", "toy")
    assert workspace.store.count_jobs("queued") == 0
    # One that is there already is cancelled, looked at and waited for all the same.
    job = submission.submit(workspace, "eval", "toy", start_worker=False)
    workspace.store.claim_job({"worker_id": "w", "host": "elsewhere"}, 60)
    assert workspace.jobs()[0].id == job.id
    assert job.cancel().status == "cancelling"


def test_a_notebook_that_cannot_be_copied_is_not_queued(
    workspace: wb.Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(target: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    mine = tmp_path / "나의 노트.ipynb"
    nbformat.write(nbformat.v4.new_notebook(), mine)
    monkeypatch.setattr(submission, "write_whole", refuse)
    with pytest.raises(wb.StoreError, match=r"나의 노트\.ipynb.*: No space left"):
        workspace.submit_notebook(mine)
    assert workspace.store.count_jobs() == 0


def test_a_folder_whose_name_no_database_keeps_is_refused(
    workspace: wb.Workspace, toy: wb.BaseAdapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    odd.mkdir()
    monkeypatch.chdir(odd)
    with pytest.raises(wb.BadInput, match="UTF-8"):
        submission.submit(workspace, "eval", "toy", start_worker=False)
    assert workspace.store.count_jobs() == 0
    fine = tmp_path / "강 ☕\t1"
    fine.mkdir()
    monkeypatch.chdir(fine)
    submission.submit(workspace, "eval", "toy", start_worker=False)


def test_a_copy_that_is_not_what_was_submitted_is_neither_executed_nor_kept(
    workspace: wb.Workspace, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.ipynb"
    nbformat.write(nbformat.v4.new_notebook(), mine)
    job = submission.submit_notebook(workspace, mine, start_worker=False)
    row = workspace.store.job(job.id)
    assert row is not None
    copy = queue.source_copy(workspace, row.source_sha256)
    whole = copy.read_bytes()
    copy.write_bytes(whole[:40])
    with pytest.raises(wb.CorruptFile, match=r"submitted notebook.* changed"):
        queue.whole_source(workspace, row.source_sha256)
    submission.submit_notebook(workspace, mine, start_worker=False)
    assert copy.read_bytes() == whole


def test_a_notebook_whose_folder_is_gone_is_not_run_elsewhere(
    workspace: wb.Workspace, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    nbformat.write(nbformat.v4.new_notebook(), folder / "mine.ipynb")
    job = submission.submit_notebook(workspace, folder / "mine.ipynb", start_worker=False)
    workspace.store.move_job(job.id, expect="queued", to="failed")
    folder.rename(tmp_path / "moved")
    before = workspace.count_jobs()
    with pytest.raises(wb.BadInput, match=r"mine' that mine\.ipynb runs in is gone") as caught:
        job.refresh().retry()
    assert "new place" in caught.value.hint
    assert workspace.count_jobs() == before
    (tmp_path / "moved").rename(folder)
    again = job.retry()
    again.cancel()


def test_a_log_is_followed_letter_by_letter(workspace: wb.Workspace) -> None:
    me = processes.this_process()
    row = records.JobRecord(
        type="eval", status="running", host=processes.host(), pid=me.pid, pid_started=me.started, attempt=1
    )
    job = workspace.job(workspace.store.add_job(row).id or 0)
    job.folder.mkdir(parents=True)
    log, letter = job.folder / "log.txt", "강".encode()
    log.write_bytes(b"one\n" + letter[:1])
    lines = job.follow_logs(pause=0.01)
    assert next(lines) == "one"
    with log.open("ab") as file:
        file.write(letter[1:] + b"\n")
    assert next(lines) == "강"
    workspace.store.move_job(job.id, expect="running", to="succeeded")
    assert list(lines) == []


def test_what_workers_print_is_kept_within_bounds(
    workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "WORKER_LOG_BYTES", 10)
    monkeypatch.setattr(workers, "worker_command", lambda home: ["true"])
    log = workspace.path / "worker.log"
    log.write_text("much too long")
    assert workers.ensure_worker(workspace)
    assert log.read_text() == ""
    assert log.with_name("worker.log.1").read_text() == "much too long"
