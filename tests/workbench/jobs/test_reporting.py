"""Stages, their pace and the time left; and how little of it is written."""

import time
from collections.abc import Iterator
from contextlib import nullcontext

import pytest

import workbench as wb
from workbench import scope
from workbench.jobs import job as jobs
from workbench.jobs.reporting import Pace


@pytest.fixture
def job(workspace: wb.Workspace, toy: wb.BaseAdapter) -> Iterator[scope.JobScope]:
    with wb.job_scope("eval", toy, workspace=workspace) as job:
        yield job


def now(job: scope.JobScope) -> jobs.Progress:
    assert job._reporter is not None
    job._reporter.flush()
    return job.workspace.job(job.id).progress


def test_shares_make_a_whole_that_never_goes_back(job: scope.JobScope) -> None:
    seen = []
    with job.stage("features", share=0.5):
        for done in (0, 5, 10):
            job.progress(done, 10, "drawing")
            seen.append(now(job).fraction)
        job.progress(1, 10)  # a stage that takes something back
        seen.append(now(job).fraction)
    with job.stage("fit", share=0.4):
        seen.append(now(job).fraction)
        with job.stage("first half", share=0.5):
            job.progress(1, 2)
            seen.append(now(job).fraction)
            assert [stage[:1] for stage in now(job).stages] == [("fit",), ("first half",)]
        with job.stage("second half", share=0.5):
            job.progress(1, 2)
            seen.append(now(job).fraction)
    seen.append(now(job).fraction)
    assert seen == pytest.approx([0.0, 0.25, 0.5, 0.5, 0.5, 0.6, 0.8, 0.9])


def test_without_a_share_only_the_stage_is_known(job: scope.JobScope) -> None:
    with job.stage("warming up"):
        job.progress(3, 10, "oven")
        progress = now(job)
    assert progress.fraction is None
    assert progress.stages == (jobs.Stage("warming up", 3, 10),)
    assert progress.words == "warming up 3/10 › oven"


@pytest.mark.parametrize(
    ("name", "share"), [("", 0.1), ("a", 0.0), ("a", -1), ("a", 1.01), ("a", "1"), ("a", True)]
)
def test_a_stage_that_cannot_be_is_refused(job: scope.JobScope, name: str, share: object) -> None:
    with pytest.raises(wb.BadInput, match="stage"), job.stage(name, share):  # type: ignore[arg-type]
        pass
    with job.stage("most", share=0.7):
        pass
    with pytest.raises(wb.BadInput, match=r"at most 0\.3, got 0\.4"), job.stage("too much", share=0.4):
        pass


def test_an_error_leaves_the_stage(job: scope.JobScope) -> None:
    with pytest.raises(ZeroDivisionError), job.stage("a", share=0.5):
        raise ZeroDivisionError
    assert now(job).stages == ()


def test_a_pace_is_that_of_the_last_seconds() -> None:
    at = 0.0
    pace = Pace(lambda: at)
    assert pace.take("a", 0) is None
    for _ in range(100):
        at += 1.0
        rate = pace.take("a", at)
    assert rate == pytest.approx(1.0)
    for second in range(30):
        at += 1.0
        rate = pace.take("a", 100 + 10 * (second + 1))
    assert rate == pytest.approx(10.0)
    assert pace.take("another", 5) is None
    at += 0.5
    assert pace.take("another", 6) is None  # too short to say
    at += 5
    assert pace.take("another", 6 + 5.5) == pytest.approx(6.5 / 5.5)
    assert pace.take("another", 0) is None  # it went back


def test_rate_and_time_left_are_written(job: scope.JobScope) -> None:
    clock = 0.0
    assert job._reporter is not None
    job._reporter._rate, job._reporter._whole = Pace(lambda: clock), Pace(lambda: clock)
    for _ in range(8):
        clock += 0.2
        job.progress(10 * clock, 100, "filling")
        progress = now(job)
    assert progress.rate == pytest.approx(10, rel=0.3)
    assert progress.left is not None
    assert progress.left == pytest.approx((100 - progress.done) / progress.rate, rel=0.3)
    assert progress.words.startswith("filling, ")


def test_what_is_gone_through_is_tracked(job: scope.JobScope) -> None:
    assert list(job.track(["a", "b"], message="words")) == ["a", "b"]
    assert now(job)[:3] == (2.0, 2.0, "words")
    assert list(job.track(iter("abc"))) == ["a", "b", "c"]


def test_bars_deep_in_a_library_are_the_jobs_progress(job: scope.JobScope) -> None:
    from tqdm.auto import tqdm

    with job.stage("fit", share=0.5), job.follow_tqdm():
        for _ in tqdm(range(4), desc="epochs", mininterval=0):
            progress = now(job)
    assert progress.message == "epochs"
    assert progress.fraction == pytest.approx(0.5 * 3 / 4)
    assert progress.stages == (jobs.Stage("fit", 3, 4),)


def test_a_database_that_refuses_for_a_while_is_no_reason_to_fail(
    workspace: wb.Workspace, toy: wb.BaseAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, refused = workspace.store.update_job, []

    def refuse(*given: object, **named: object) -> object:
        if len(refused) < 3:
            refused.append(1)
            raise wb.StoreUnavailable("down")
        return real(*given, **named)  # type: ignore[arg-type]

    saves: list[int] = []
    save = workspace.store.save_result

    def save_later(*given: object) -> bool:
        saves.append(1)
        if len(saves) < 3:
            raise wb.StoreUnavailable("down")
        return save(*given)  # type: ignore[arg-type]

    with wb.job_scope("eval", toy, workspace=workspace) as job:
        monkeypatch.setattr(workspace.store, "update_job", refuse)
        monkeypatch.setattr(workspace.store, "save_result", save_later)
        job.progress(1, 2, "a")
        time.sleep(0.5)
        job.finish(wb.Result(summary="kept"))
    found = workspace.job(job.id)
    assert (found.status, found.summary, len(saves)) == ("succeeded", "kept", 3)


# Floors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("floors", "says"),
    [
        ({"R@10": 0.5}, ""),
        ({"R@10": 0.6}, r"^R@10 is 0\.5, .* 0\.6$"),
        ({"R@10": 0.6, "mAP": 0.3}, r"^R@10 is 0\.5, .* 0\.6; mAP is 0\.2, .* 0\.3$"),
        ({"R@1": 0.1}, r"^no metric 'R@1'; did you mean 'R@10'\?$"),
        ('{"odd": -9}', "^odd is nan, .* -9$"),
    ],
)
def test_a_result_below_its_floor_fails_and_is_kept(
    workspace: wb.Workspace, toy: wb.BaseAdapter, floors: object, says: str
) -> None:
    result = wb.Result(summary="measured", metrics={"R@10": 0.5, "mAP": 0.2, "odd": float("nan")})
    job = wb.job_scope("eval", toy, workspace=workspace, fail_below=floors)  # type: ignore[arg-type]
    falls = pytest.raises(wb.BelowFloor, match=says) if says else nullcontext()
    with falls as raised, job:
        job.finish(result)
    found = workspace.job(job.id)
    assert found.status == ("failed" if says else "succeeded")
    assert found.result is not None
    assert found.result.metrics == {"R@10": 0.5, "mAP": 0.2}
    if says:
        assert found.error is not None
        assert raised is not None
        assert (found.error["type"], found.error["message"]) == ("BelowFloor", str(raised.value))


@pytest.mark.parametrize("floors", ["{", "[1]", '{"a": "b"}', '{"a": NaN}', {"a": True}, 3])
def test_floors_that_are_none_are_refused_before_anything(
    workspace: wb.Workspace, toy: wb.BaseAdapter, floors: object
) -> None:
    with pytest.raises(wb.BadOptions, match="fail_below"):
        wb.job_scope("eval", toy, workspace=workspace, fail_below=floors)  # type: ignore[arg-type]
    with pytest.raises(wb.BadOptions, match="fail_below"):
        workspace.submit("eval", "toy", fail_below=floors)  # type: ignore[arg-type]
    assert workspace.jobs() == []
