import math
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

import workbench as wb
from tests.workbench.points import Point, add_points
from workbench.errors import StoreUnavailable
from workbench.host import mounts
from workbench.store import migrations, records
from workbench.store.database import patiently
from workbench.store.engines import is_sound, sqlite_module
from workbench.store.outcome import STATISTICS
from workbench.store.points import Batch
from workbench.store.store import Store

WORKER = {"worker_id": "w1", "host": "here", "worker_pid": 1, "worker_pid_started": "1"}


@pytest.fixture
def file_store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "workbench.db")
    yield store
    store.close()


def address(store: Store) -> str:
    return store.url.render_as_string(hide_password=False)


def running(store: Store) -> records.JobRecord:
    store.add_job(records.JobRecord(type="eval"))
    job = store.claim_job(WORKER, 9)
    assert job is not None
    return job


def test_a_job_is_claimed_by_one_of_many(store: Store) -> None:
    for _ in range(20):
        store.add_job(records.JobRecord(type="eval"))
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
    first, _ = (store.add_job(records.JobRecord(type="eval")) for _ in range(2))
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
        store.add_job(records.JobRecord(type=kind))
    store.claim_job(WORKER, 9)
    assert [job.id for job in store.jobs()] == [4, 3, 2, 1]
    assert [job.id for job in store.jobs(type="eval", limit=2)] == [4, 3]
    assert [job.id for job in store.jobs(limit=2, offset=2)] == [2, 1]
    assert [job.id for job in store.jobs(status="running")] == [1]
    assert store.count_jobs(("queued", "running")) == 4
    assert store.newest_job() == 4


def test_a_summary_is_what_its_points_come_to(store: Store) -> None:
    run_id = store.add_run(records.RunRecord(experiment_id=0), "e").id or 0
    values = [0.5, math.nan, 0.9, math.inf, 0.1, 0.9, -math.inf]
    for start in (0, 3):  # over two transactions
        points = [Point(run_id, "m", step, 1.0 + step, values[step]) for step in range(start, len(values))]
        add_points(store, points[: 3 if start == 0 else None], {(run_id, "m"): "higher"})
    (summary,) = store.summaries([run_id])[run_id]
    assert (summary.count, summary.nonfinite, summary.last, summary.last_step) == (7, 3, -math.inf, 6)
    assert (summary.min, summary.max, summary.best, summary.best_step) == (0.1, 0.9, 0.9, 2)
    (row,) = store.summary_table([run_id])[run_id].values()
    assert tuple(row) == STATISTICS
    assert row == {name: getattr(summary, name) for name in STATISTICS}
    read = store.points(run_id, "m")
    assert [step for step, _, _ in read] == list(range(7))
    assert [str(value) for _, _, value in read] == [str(value) for value in values]
    assert store.points(run_id, "m", after=4) == read[5:]
    assert store.points(run_id, "other") == []


@pytest.mark.parametrize(("better", "best"), [("higher", 3.0), ("lower", 1.0), (None, None)])
def test_best_follows_the_declared_direction_and_guesses_none(
    store: Store, better: str | None, best: float | None
) -> None:
    run_id = store.add_run(records.RunRecord(experiment_id=0), "e").id or 0
    points = [Point(run_id, "m", step, 0.0, value) for step, value in enumerate((2.0, 3.0, 1.0))]
    add_points(store, points, {(run_id, "m"): better})
    assert store.summaries([run_id])[run_id][0].best == best


@pytest.mark.slow
def test_writers_in_many_processes_lose_nothing(store: Store) -> None:
    run_id = store.add_run(records.RunRecord(experiment_id=0), "e").id or 0
    program = (
        "import sys; from workbench.store.store import Store; from workbench.store.points import Batch\n"
        "store = Store(sys.argv[1])\n"
        f"for step in range(50): store.add_batches({{({run_id}, 'm'): Batch([step], [0.0], [1.0])}}, {{}})"
    )
    command = [sys.executable, "-c", program, address(store)]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(300) for process in processes] == [0, 0, 0]
    assert store.summaries([run_id])[run_id][0].count == 150
    assert len(store.points(run_id, "m")) == 150


def test_opening_an_up_to_date_database_does_without_alembic(store: Store) -> None:
    program = (
        "import sys; from workbench.store.store import Store\n"
        "Store(sys.argv[1]); sys.exit('alembic' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, address(store)], check=True)


@pytest.mark.slow
def test_many_may_open_a_new_database_at_once(database: str) -> None:
    program = "import sys; from workbench.store.store import Store; Store(sys.argv[1])"
    processes = [subprocess.Popen([sys.executable, "-c", program, database]) for _ in range(4)]
    assert [process.wait(300) for process in processes] == [0] * 4


def test_a_database_of_a_newer_version_is_left_alone(store: Store) -> None:
    with store._writing() as connection:
        connection.execute(text("update alembic_version set version_num = '9999'"))
    with pytest.raises(wb.StoreError, match=f"9999.*{migrations.HEAD}"):
        Store(address(store))


def test_states_are_durable_and_points_are_quick(file_store: Store) -> None:
    store = file_store
    # 2 is FULL: a committed state survives a power cut; 1 is NORMAL.
    for durable, level in ((True, 2), (False, 1), (True, 2)):
        with store._writing(durable=durable) as connection:
            assert connection.execute(text("pragma synchronous")).scalar() == level
    with store._reading() as connection:
        assert connection.execute(text("pragma journal_mode")).scalar() == "wal"


def test_a_write_that_fails_changes_nothing(store: Store) -> None:
    run_id = store.add_run(records.RunRecord(experiment_id=0), "e").id or 0
    with pytest.raises(wb.StoreError, match=r"(?i)foreign key constraint"):
        add_points(store, [Point(run_id, "m", 0, 0.0, 1.0), Point(99, "m", 0, 0.0, 1.0)])
    assert store.summaries([run_id])[run_id] == []


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://x/y", "mysql"),
        ("://", "URL"),
        ("sqlite://", "in-memory"),
        ("sqlite:///:memory:", "in-memory"),
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


def test_on_postgresql_progress_does_not_wait_for_the_disk_and_states_and_points_do(
    postgres: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(postgres.new_database())
    run = store.add_run(records.RunRecord(experiment_id=0), "e")
    ways: list[bool] = []
    writing = Store._writing
    with monkeypatch.context() as patch:
        patch.setattr(
            Store,
            "_writing",
            lambda self, *, durable=True: (ways.append(durable), writing(self, durable=durable))[1],
        )
        store.add_batches({(run.id or 0, "m"): Batch([0], [0.0], [1.0])}, {})
    assert ways == [True]
    for durable, says in ((True, "on"), (False, "off"), (True, "on")):
        with store._writing(durable=durable) as connection:
            assert connection.execute(text("show synchronous_commit")).scalar() == says
    assert store.version().startswith("PostgreSQL 1")
    store.close()


# Many at once ---------------------------------------------------------------------------------------

#: Writers, and transactions of each: with --long as many as a busy day has, else enough to collide.
WRITERS, TRANSACTIONS, LONG_TRANSACTIONS = 16, 100, 1000

_WRITER = """
import sys, threading
from workbench.store.points import Batch
from workbench.store.store import Store
store, job_id, run_id = Store(sys.argv[1]), *map(int, sys.argv[2:4])
failed = []

def write(own_id):
    for step in range({transactions}):
        if step % 50 == 49:  # one row that all compete for: each requeues it, at the attempt that it read
            while (job := store.job(job_id)).status != "running" or not store.move_job(
                job_id, expect="running", to="queued", attempt=job.attempt
            ):
                store.claim_job({{"worker_id": "w"}}, 9)
        elif step % 10 == 0:  # one run that all log to
            store.add_batches({{(run_id, f"m{{step % 3}}"): Batch([step], [0.0], [float(own_id)])}}, {{}})
        else:
            assert store.update_job(own_id, attempt=1, progress_done=float(step)) == "running"

def run(own_id):
    try:
        write(own_id)
    except BaseException as error:
        failed.append(repr(error))

threads = [threading.Thread(target=run, args=[int(own)]) for own in sys.argv[4:]]
for thread in threads: thread.start()
for thread in threads: thread.join()
sys.exit("; ".join(failed) or 0)
"""


@pytest.mark.slow
def test_sixteen_writers_lose_nothing(store: Store, request: pytest.FixtureRequest) -> None:
    transactions = LONG_TRANSACTIONS if request.config.getoption("--long") else TRANSACTIONS
    own = [running(store).id for _ in range(WRITERS)]
    job_id = running(store).id or 0
    run_id = store.add_run(records.RunRecord(experiment_id=0), "e").id or 0
    program = _WRITER.format(transactions=transactions)
    # Four processes of four threads: the test is about the database, not about starting interpreters.
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", program, address(store), str(job_id), str(run_id), *map(str, own[at::4])],
            stderr=subprocess.PIPE,
            text=True,
        )
        for at in range(4)
    ]
    errors = [writer.communicate(timeout=300)[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 4, "".join(errors)
    job = store.job(job_id)
    assert job is not None
    if job.status == "queued":
        job = store.claim_job(WORKER, 9)
        assert job is not None
    # Each requeue was followed by one claim, so a lost one would be missing here.
    assert job.attempt == 1 + WRITERS * transactions // 50
    summaries = store.summaries([run_id])[run_id]
    assert sum(summary.count for summary in summaries) == WRITERS * transactions // 10
    for summary in summaries:
        assert len(store.points(run_id, summary.name)) == summary.count
    last = [one.progress_done for one in store.jobs(status="running") if one.id in own]
    assert last == [transactions - 2.0] * WRITERS


_CLAIMER = """
import sys
from pathlib import Path
from workbench.store.store import Store
store = Store(sys.argv[1])
worker = {"worker_id": sys.argv[2], "host": sys.argv[2], "worker_pid": 1, "worker_pid_started": "1"}
while (job := store.claim_job(worker, 30)) is not None:
    print(job.id, flush=True)
    assert store.move_job(job.id, expect="running", to="succeeded", attempt=1)
"""


@pytest.mark.slow
def test_no_job_is_run_by_two_workers(store: Store) -> None:
    for _ in range(200):
        store.add_job(records.JobRecord(type="eval"))
    claimers = [
        subprocess.Popen(
            [sys.executable, "-c", _CLAIMER, address(store), f"w{number}"], stdout=subprocess.PIPE, text=True
        )
        for number in range(4)
    ]
    taken = [int(word) for claimer in claimers for word in claimer.communicate(timeout=300)[0].split()]
    assert [claimer.returncode for claimer in claimers] == [0] * 4
    assert sorted(taken) == list(range(1, 201))
    assert store.count_jobs("succeeded") == 200


def test_an_experiment_that_several_add_at_once_is_one(store: Store) -> None:
    """Two workers whose first jobs are of one experiment: the later insert was refused as a duplicate."""
    barrier = threading.Barrier(4)

    def add() -> None:
        for number in range(30):
            barrier.wait(300)
            store.add_run(records.RunRecord(experiment_id=0), f"question {number}")

    with ThreadPoolExecutor(4) as pool:
        for adding in [pool.submit(add) for _ in range(4)]:
            adding.result(300)
    assert sorted(one.name for one in store.experiments()) == sorted(f"question {n}" for n in range(30))
    assert len(store.runs()) == 120


# Temporary errors ------------------------------------------------------------------------------------


def test_a_server_that_went_away_is_waited_for(postgres: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.store.database.CONNECT_SECONDS", 0.1)
    store = Store(postgres.new_database())
    job_id = running(store).id or 0
    postgres.stop()
    try:
        with pytest.raises(wb.StoreUnavailable, match="cannot reach the database"):
            store.move_job(job_id, expect="running", to="succeeded", attempt=1)
        with pytest.raises(wb.StoreUnavailable):
            patiently(lambda: store.job(job_id), seconds=0.2)
        back = threading.Timer(1.0, postgres.start)
        back.start()
        moved = patiently(
            lambda: store.move_job(job_id, expect="running", to="succeeded", attempt=1), seconds=90
        )
        assert moved
        back.join()
    finally:
        postgres.start()
    store.close()


def test_a_connection_that_is_cut_is_replaced(postgres: Any) -> None:
    url = postgres.new_database()
    store, other = Store(url), Store(url)
    running(store)
    with other._writing() as connection:
        every = "select pg_terminate_backend(pid) from pg_stat_activity"
        connection.execute(text(f"{every} where datname = current_database() and pid <> pg_backend_pid()"))
    assert store.count_jobs("running") == 1
    store.close()
    other.close()


def test_a_file_that_another_holds_may_be_free_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.store.engines.BUSY_SECONDS", 0.1)
    store = Store(tmp_path / "workbench.db")
    with store._writing(), pytest.raises(wb.StoreUnavailable, match="locked"):
        running(Store(tmp_path / "workbench.db"))
    store.close()


def test_patience_ends_at_once_with_what_will_not_pass() -> None:
    calls: list[int] = []

    def refused() -> None:
        calls.append(1)
        raise wb.StoreError("the disk is full")

    with pytest.raises(wb.StoreError, match="full"):
        patiently(refused)
    assert calls == [1]


# SQLite only -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "sound"),
    [
        ("3.40.1", False),
        ("3.44.6", True),
        ("3.50.6", False),
        ("3.50.7", True),
        ("3.51.2", False),
        ("3.51.3", True),
    ],
)
def test_an_sqlite_with_the_bug_does_without_its_log(
    version: str, sound: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sqlite_module()
    monkeypatch.setattr(module, "sqlite_version", version)
    store = Store(tmp_path / "workbench.db")
    with store._reading() as connection:
        assert connection.execute(text("pragma journal_mode")).scalar() == ("wal" if sound else "truncate")
    running(store)
    store.close()


def test_the_sqlite_in_use_is_sound() -> None:
    assert is_sound(sqlite_module().sqlite_version)


_MOUNTS = """22 1 0:20 / / rw,relatime - ext4 /dev/vda rw
30 22 0:33 / /home rw shared:1 - nfs4 server:/home rw,vers=4.2
31 30 0:34 / /home/me/local\\040disk rw - ext4 /dev/vdb rw
32 22 0:35 / /mnt/share rw - cifs //server/share rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me/results", "nfs4"),
        ("/home", "nfs4"),
        ("/homes", "ext4"),
        ("/home/me/local disk/results", "ext4"),
        ("/mnt/share", "cifs"),
        ("/var", "ext4"),
    ],
)
def test_the_mount_of_a_path_is_the_deepest(path: str, kind: str) -> None:
    assert mounts._kind(_MOUNTS, path) == kind


def test_a_database_on_a_network_file_system_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(f"1 0 0:1 / / rw - ext4 d rw\n2 1 0:2 / {tmp_path / 'far'} rw - nfs4 server:/x rw\n")
    monkeypatch.setattr(mounts, "_TABLE", table)
    with pytest.raises(wb.StoreError, match=r"network file system \(nfs4\)") as raised:
        wb.Workspace(tmp_path / "far")
    assert "WORKBENCH_DATABASE_URL" in raised.value.hint
    assert not (tmp_path / "far" / "workbench.db").exists()
    # With the database in another folder, the same workspace folder works.
    wb.Workspace(tmp_path / "far", database_url=f"sqlite:///{tmp_path / 'near' / 'workbench.db'}").close()


def test_the_runs_of_an_attempt_end_with_it_and_only_with_it(store: Store) -> None:
    job = running(store)
    mine = store.add_run(records.RunRecord(experiment_id=0, job_id=job.id), "e").id or 0
    other = store.add_run(records.RunRecord(experiment_id=0), "e").id or 0

    def states() -> list[str]:
        return [run.status for run_id in (mine, other) if (run := store.run(run_id))]

    assert not store.move_job(job.id or 0, expect="running", to="failed", attempt=7, runs="failed")
    assert states() == ["running", "running"]
    error = {"cell": None, "type": "E", "message": "m"}
    assert store.move_job(job.id or 0, expect="running", to="failed", attempt=1, runs="failed", error=error)
    assert states() == ["failed", "running"]
    run = store.run(mine)
    assert run is not None
    assert (run.error, run.finished_at is not None) == (error, True)


@pytest.mark.parametrize("odd", ["caf\udce9.png", "nul\0inside", "\ud800 강"])
def test_whatever_a_process_says_can_be_stored(store: Store, odd: str) -> None:
    # File names that are not UTF-8 contain unpaired surrogates, which must not prevent a job's end.
    job_id = running(store).id or 0
    stages = [{"name": odd, "done": 0, "total": None}]
    assert store.update_job(job_id, attempt=1, progress_message=odd, progress_stages=stages) == "running"
    assert store.save_result(job_id, 1, {"summary": odd, "metrics": {odd: 1.0}})
    assert store.move_job(job_id, expect="running", to="failed", attempt=1, error={"message": odd})
    job = store.job(job_id)
    assert job is not None
    assert job.error is not None
    assert job.error["message"].startswith(odd[:3].encode("utf-8", "backslashreplace").decode())
    assert store.result(job_id) is not None


@pytest.mark.parametrize("statement", ["insert", "commit"])
def test_what_is_added_while_connections_are_cut_is_added_once(
    postgres: Any, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    import psycopg

    url = postgres.new_database()
    store = Store(url)
    cuts = [1]

    def cut() -> None:
        if cuts:
            cuts.clear()
            with psycopg.connect(url, autocommit=True) as knife:
                knife.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity "
                    "where datname = current_database() and pid <> pg_backend_pid()"
                )

    def before(_c: object, _cursor: object, words: str, *_: object) -> None:
        if statement == "insert" and words.startswith("INSERT INTO job"):
            cut()

    event.listen(store._engine, "before_cursor_execute", before)
    event.listen(store._engine, "commit", lambda _: cut() if statement == "commit" else None)
    if statement == "insert":  # nothing was changed
        assert store.add_job(records.JobRecord(type="eval")).id is not None
        assert store.count_jobs() == 1
    else:  # unknown, so the caller decides
        with pytest.raises(wb.StoreError) as raised:
            store.add_job(records.JobRecord(type="eval"))
        assert isinstance(raised.value, StoreUnavailable)
        assert not raised.value.undone
    store.close()


def test_a_read_survives_a_connection_that_is_cut(postgres: Any) -> None:
    import psycopg

    url = postgres.new_database()
    store = Store(url)
    job_id = store.add_job(records.JobRecord(type="eval")).id or 0
    cuts = [1, 1]

    def before(_c: object, _cursor: object, words: str, *_: object) -> None:
        if cuts and "FROM job" in words:
            cuts.pop()
            with psycopg.connect(url, autocommit=True) as knife:
                knife.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity "
                    "where datname = current_database() and pid <> pg_backend_pid()"
                )

    event.listen(store._engine, "before_cursor_execute", before)
    assert store.job(job_id) is not None
    assert len(store.jobs()) == 1
    assert cuts == []
    store.close()


def test_the_mark_of_a_run_is_another_one_when_there_is_something_new(store: Store) -> None:
    ids = [
        store.add_run(records.RunRecord(experiment_id=0, config={"강": [1]}), "e").id or 0 for _ in range(2)
    ]
    first, second = ids
    marks = store.run_marks(ids)
    assert store.run_marks([*ids, 99]) == marks
    assert marks.keys() == set(ids)
    assert store.run_marks([]) == {}
    seen = [marks[first]]

    def moved() -> bool:
        now = store.run_marks(ids)
        seen.append(now[first])
        return len(set(seen)) == len(seen) and now[second] == marks[second]

    add_points(store, [Point(first, "m", 0, 0.0, math.nan)])
    assert moved()
    add_points(store, [Point(first, "m", 1, 0.0, 1.0), Point(first, "n", 1, 0.0, 1.0)])
    assert moved()
    for change in ({"tags": {"a": 1}}, {"notes": "왜"}, {"name": "b"}):
        store.change_run(first, **change)
        assert moved()
    store.end_run(first, "failed", {"type": "E", "message": "m"})
    assert moved()
    assert store.run_marks(ids) == store.run_marks(ids)


def test_jobs_are_told_with_their_adapters(store: Store) -> None:
    one, two = (store.add_job(records.JobRecord(type="eval", adapter=name)).id or 0 for name in ("a", "강"))
    assert store.job_adapters([one, two, 99]) == {one: "a", two: "강"}
    assert store.job_adapters([]) == {}
