"""Version 0.2.0 starts the search service by this name; see :mod:`workbench._former`."""

import runpy

if __name__ == "__main__":
    runpy.run_module("workbench.search.service.__main__", run_name="__main__", alter_sys=True)
