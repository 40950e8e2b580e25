"""The process of one attempt: what it imports ahead of time."""

import os
import subprocess
import sys
from importlib.util import find_spec


def test_it_imports_nothing_of_what_papermill_only_needs_for_clouds() -> None:
    assert find_spec("pyarrow")  # else this says nothing
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "workbench.jobs.worker.runner", "2"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ""},
        timeout=300,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "papermill.iorw" in imported
    # What is looked for in vain is listed too; these are imported by what is found.
    assert {"pyarrow.lib", "numpy", "arrow", "lark"} & imported == set()
