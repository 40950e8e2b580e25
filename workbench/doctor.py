"""What ``workbench doctor`` says: what is installed, where things are, what is wrong."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from workbench import jobs, notebooks
from workbench.adapter import adapters, get_adapter
from workbench.errors import WorkbenchError
from workbench.records import JOB_STATUSES
from workbench.store import is_sound
from workbench.workspace import Workspace

#: Packages whose versions matter when something does not work.
PACKAGES = ("notebook-workbench", "jupyterlab", "voila", "papermill", "ipykernel", "SQLAlchemy", "torch")

_LEAST_FREE = 500 * 2**20


def examine(home: Workspace) -> dict[str, Any]:
    """Return ``{"found": {name: value}, "problems": [sentence]}``."""
    problems: list[str] = []
    found: dict[str, Any] = {"python": f"{sys.version.split()[0]} at {sys.executable}"}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            problems.append(f"{package} is not installed; install the project again")
    found["database"] = database = home.store.version()
    if home.store.is_sqlite and not is_sound(database.split()[1]):
        problems.append(
            f"{database} has a bug that can corrupt databases, so it works without its write-ahead log, "
            "slower: pip install 'pysqlite3>=0.6'"
        )
    found["workspace"] = str(home.path)
    if not os.access(home.path, os.W_OK):
        problems.append(f"the workspace {home.path} cannot be written")
    free = shutil.disk_usage(home.path).free
    found["free space"] = f"{free / 2**30:.1f} GiB"
    if free < _LEAST_FREE:
        problems.append(f"only {free / 2**20:.0f} MiB are free where the workspace is")
    counts = {status: home.store.count_jobs(status) for status in JOB_STATUSES}
    found["jobs"] = ", ".join(f"{count} {status}" for status, count in counts.items() if count) or "none"
    alive = jobs.is_locked(jobs.worker_lock(home))
    found["worker"] = "alive" if alive else "none; it starts with the next job"
    if counts["queued"] and not alive:
        problems.append(f"{counts['queued']} jobs are queued and no worker runs; start one: workbench worker")
    found["indexes"] = ", ".join(home.index_names()) or "none"
    found["adapters"] = ", ".join(adapters()) or "none"
    if not adapters():
        problems.append("no adapter is installed; install the package of a model family")
    problems += [problem for name in adapters() if (problem := _cannot_load(name))]
    for kind in notebooks.JOB_NOTEBOOKS:
        try:
            notebooks.job_notebook(kind)
        except WorkbenchError as error:
            problems.append(str(error))
    found["notebooks"] = str(notebooks.notebooks_folder())
    return {"found": found, "problems": problems}


def _cannot_load(name: str) -> str:
    try:
        get_adapter(name)
    except Exception as error:  # a doctor that falls ill helps nobody: whatever an adapter raises is said
        return f"adapter {name!r} cannot be loaded: {type(error).__name__}: {error}"
    return ""
