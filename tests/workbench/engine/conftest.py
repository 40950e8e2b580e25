"""Two engines for the tests of all of them, started once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import until
from workbench.engine.cluster import Cluster
from workbench.engine.engine import Engine
from workbench.engine.local import LocalProcesses
from workbench.engine.opening import open_engine

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def task_path() -> Iterator[None]:
    """Let workers import ``engine_tasks``: another package has taken the name ``tests``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH")))))
        yield


@pytest.fixture(scope="session")
def cluster(task_path: None) -> Iterator[Cluster]:
    with Cluster(2) as cluster:
        yield cluster


@pytest.fixture(params=["local", "dask"])
def engine(request: pytest.FixtureRequest, task_path: None) -> Iterator[Engine]:
    if request.param == "local":
        with LocalProcesses(2) as local:
            yield local
    else:
        with open_engine(request.getfixturevalue("cluster").address) as dask:
            until(lambda: dask.workers == 2)
            until(lambda: dask.workers == 2)
            yield dask
