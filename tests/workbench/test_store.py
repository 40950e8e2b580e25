import math
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

import workbench as wb
from workbench import migrations, records
from workbench.store import Point, Store

WORKER = {"worker_id": "w1", "host": "here", "worker_pid": 1, "worker_pid_started": "1"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "a b%20강" / "workbench.db")
    yield store
    store.close()


def running(store: Store) -> records.Job:
    store.add_job(records.Job(type="eval"))
    job = store.claim_job(WORKER, 9)
    assert job is not None
    return job


def test_a_job_is_claimed_by_one_of_many(store: Store) -> None:
    for _ in range(20):
        store.add_job(records.Job(type="eval"))
    taken: list[int] = []

    def take() -> None:
        while (job := store.claim_job(WORKER, 9)) is not None:
            taken.append(job.id or 0)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(1, 21))


def test_the_oldest_is_claimed_first_and_begins_its_first_attempt(store: Store) -> None:
    first, _ = (store.add_job(records.Job(type="eval")) for _ in range(2))
    job = store.claim_job(WORKER, 9)
    assert job is not None
    assert (job.id, job.status, job.attempt, job.worker_id) == (first.id, "running", 1, "w1")
    assert job.lease_until is not None
    assert job.heartbeat_at is not None
    assert job.lease_until - job.heartbeat_at == pytest.approx(9)


@pytest.mark.parametrize(
    ("expect", "to", "attempt", "moved"),
    [
        ("running", "succeeded", 1, True),
        ("running", "succeeded", None, True),
        ("running", "succeeded", 2, False),
        ("queued", "cancelled", None, False),
        (("queued", "running"), "cancelling", 1, True),
    ],
)
def test_a_job_moves_only_if_it_was_what_the_mover_thought(
    store: Store, expect: str, to: str, attempt: int | None, moved: bool
) -> None:
    job_id = running(store).id or 0
    assert store.move_job(job_id, expect=expect, to=to, attempt=attempt) is moved
    now = store.job(job_id)
    assert now is not None
    assert now.status == (to if moved else "running")
    assert (now.finished_at is not None) is (moved and to in records.FINAL_STATUSES)


def test_an_earlier_attempt_changes_nothing(store: Store) -> None:
    job = running(store)
    job_id = job.id or 0
    assert store.move_job(job_id, expect="running", to="queued", attempt=1)
    assert store.claim_job(WORKER, 9) is not None
    assert store.update_job(job_id, attempt=1, progress_done=7.0) is None
    assert not store.save_result(job_id, 1, {"summary": "stale"})
    assert store.result(job_id) is None
    assert store.update_job(job_id, attempt=2, progress_done=1.0) == "running"
    assert store.save_result(job_id, 2, {"summary": "fresh"})
    result = store.result(job_id)
    assert result is not None
    assert result.data == {"summary": "fresh"}
    assert (now := store.job(job_id)) is not None
    assert (now.progress_done, now.summary) == (1.0, "fresh")


def test_an_attempt_that_fails_shows_no_result_of_the_one_before(store: Store) -> None:
    job_id = running(store).id or 0
    store.save_result(job_id, 1, {"summary": "first"})
    store.move_job(job_id, expect="running", to="queued", attempt=1)
    store.claim_job(WORKER, 9)
    assert store.result(job_id) is None


def test_leases_are_renewed_for_the_worker_that_holds_them(store: Store) -> None:
    job = running(store)
    assert store.renew_leases("w1", 100) == {job.id: ("running", 1)}
    assert store.renew_leases("w2", 100) == {}
    assert (now := store.job(job.id or 0)) is not None
    assert now.lease_until is not None
    assert now.heartbeat_at is not None
    assert now.lease_until - now.heartbeat_at == pytest.approx(100)


def test_jobs_come_newest_first_filtered_and_paged(store: Store) -> None:
    for kind in ("train", "eval", "eval", "eval"):
        store.add_job(records.Job(type=kind))
    store.claim_job(WORKER, 9)
    assert [job.id for job in store.jobs()] == [4, 3, 2, 1]
    assert [job.id for job in store.jobs(type="eval", limit=2)] == [4, 3]
    assert [job.id for job in store.jobs(limit=2, offset=2)] == [2, 1]
    assert [job.id for job in store.jobs(status="running")] == [1]
    assert store.count_jobs(("queued", "running")) == 4
    assert store.newest_job() == 4


def test_a_summary_is_what_its_points_come_to(store: Store) -> None:
    run_id = store.add_run(records.Run(experiment_id=0), "e").id or 0
    values = [0.5, math.nan, 0.9, math.inf, 0.1, 0.9, -math.inf]
    for start in (0, 3):  # over two transactions
        points = [Point(run_id, "m", step, 1.0 + step, values[step]) for step in range(start, len(values))]
        store.add_points(points[: 3 if start == 0 else None], {(run_id, "m"): "higher"})
    (summary,) = store.summaries([run_id])[run_id]
    assert (summary.count, summary.nonfinite, summary.last, summary.last_step) == (7, 3, -math.inf, 6)
    assert (summary.min, summary.max, summary.best, summary.best_step) == (0.1, 0.9, 0.9, 2)
    read = store.points(run_id, "m")
    assert [step for step, _, _ in read] == list(range(7))
    assert [str(value) for _, _, value in read] == [str(value) for value in values]
    assert store.points(run_id, "m", after=4) == read[5:]
    assert store.points(run_id, "other") == []


@pytest.mark.parametrize(("better", "best"), [("higher", 3.0), ("lower", 1.0), (None, None)])
def test_best_follows_the_declared_direction_and_guesses_none(
    store: Store, better: str | None, best: float | None
) -> None:
    run_id = store.add_run(records.Run(experiment_id=0), "e").id or 0
    points = [Point(run_id, "m", step, 0.0, value) for step, value in enumerate((2.0, 3.0, 1.0))]
    store.add_points(points, {(run_id, "m"): better})
    assert store.summaries([run_id])[run_id][0].best == best


def test_writers_in_many_processes_lose_nothing(store: Store) -> None:
    run_id = store.add_run(records.Run(experiment_id=0), "e").id or 0
    program = (
        "import sys; from pathlib import Path; from workbench.store import Store, Point\n"
        "store = Store(Path(sys.argv[1]))\n"
        f"for step in range(50): store.add_points([Point({run_id}, 'm', step, 0.0, 1.0)], {{}})"
    )
    path = str(store.url.database)
    processes = [subprocess.Popen([sys.executable, "-c", program, path]) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert store.summaries([run_id])[run_id][0].count == 150
    assert len(store.points(run_id, "m")) == 150


def test_opening_an_up_to_date_database_does_without_alembic(store: Store) -> None:
    program = (
        "import sys; from pathlib import Path; from workbench.store import Store\n"
        "Store(Path(sys.argv[1])); sys.exit('alembic' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(store.url.database)], check=True)


def test_many_may_open_a_new_database_at_once(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from workbench.store import Store; Store(Path(sys.argv[1]))"
    )
    path = str(tmp_path / "new.db")
    processes = [subprocess.Popen([sys.executable, "-c", program, path]) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4


def test_a_database_of_a_newer_version_is_left_alone(store: Store) -> None:
    with store._writing() as connection:
        connection.execute(text("update alembic_version set version_num = '9999'"))
    with pytest.raises(wb.StoreError, match=f"9999.*{migrations.HEAD}"):
        Store(Path(str(store.url.database)))


def test_states_are_durable_and_points_are_quick(store: Store) -> None:
    # 2 is FULL: a state that was said is there after a power cut; 1 is NORMAL.
    for durable, level in ((True, 2), (False, 1), (True, 2)):
        with store._writing(durable=durable) as connection:
            assert connection.execute(text("pragma synchronous")).scalar() == level
    with store._reading() as connection:
        assert connection.execute(text("pragma journal_mode")).scalar() == "wal"


def test_a_write_that_fails_changes_nothing(store: Store) -> None:
    run_id = store.add_run(records.Run(experiment_id=0), "e").id or 0
    with pytest.raises(wb.StoreError, match="refused"):
        store.add_points([Point(run_id, "m", 0, 0.0, 1.0), Point(99, "m", 0, 0.0, 1.0)], {})
    assert store.summaries([run_id])[run_id] == []


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://x/y", "mysql"),
        ("://", "cannot be read"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
    ],
)
def test_a_database_that_cannot_serve_is_refused_with_the_reason(url: str, says: str) -> None:
    with pytest.raises(wb.BadInput, match=says):
        Store(url)


def test_postgresql_without_its_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(wb.MissingExtra) as raised:
        Store("postgresql://somebody@nowhere/name")
    assert "[postgres]" in raised.value.hint
