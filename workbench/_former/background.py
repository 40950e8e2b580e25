"""Version 0.2.0 starts workers in the background by this name; see :mod:`workbench._former`."""

import runpy

if __name__ == "__main__":
    runpy.run_module("workbench.jobs.worker.background", run_name="__main__", alter_sys=True)
