"""The job notebooks that come with the workbench."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from workbench.errors import NotFound

#: Notebook of each job type that every workbench knows.
JOB_NOTEBOOKS: Mapping[str, str] = {
    "train": "train.ipynb",
    "eval": "evaluate.ipynb",
    "index_build": "build_index.ipynb",
}


def notebooks_folder() -> Path:
    """Return the folder of the job notebooks: the checkout's, or the copy inside an installed package."""
    package = Path(__file__).parents[1]
    checkout = package.parent / "notebooks"
    # A folder of that name beside an installed package could be anybody's.
    return checkout if (package.parent / "pyproject.toml").is_file() else package / "_notebooks"


def job_notebook(type: str) -> Path:  # noqa: A002
    """Return the notebook that runs jobs of a type.

    Raises
    ------
    NotFound
        There is none for that type, or it is not installed.
    """
    if type not in JOB_NOTEBOOKS:
        raise NotFound(f"no notebook for jobs of type {type!r}. There are: {', '.join(JOB_NOTEBOOKS)}")
    path = notebooks_folder() / JOB_NOTEBOOKS[type]
    if not path.is_file():
        raise NotFound(f"the notebook {path} is missing", hint="Install the package again.")
    return path
