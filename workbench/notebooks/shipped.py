"""The job notebooks that are shipped with the workbench."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from workbench.errors import NotFound

#: Notebook of each standard job type.
JOB_NOTEBOOKS: Mapping[str, str] = {
    "train": "train.ipynb",
    "eval": "evaluate.ipynb",
    "index_build": "build_index.ipynb",
    "data_check": "check_data.ipynb",
}


def notebooks_folder() -> Path:
    """Return the folder of the job notebooks: in the checkout, or the copy in an installed package."""
    package = Path(__file__).parents[1]
    checkout = package.parent / "notebooks"
    # A folder of that name next to an installed package may be unrelated.
    return checkout if (package.parent / "pyproject.toml").is_file() else package / "_notebooks"


def job_notebook(type: str) -> Path:  # noqa: A002
    """Return the notebook that runs jobs of a type.

    Raises
    ------
    NotFound
        There is no notebook for the type, or the file is missing.
    """
    if type not in JOB_NOTEBOOKS:
        raise NotFound(f"no notebook for job type {type!r}; known types: {', '.join(JOB_NOTEBOOKS)}")
    path = notebooks_folder() / JOB_NOTEBOOKS[type]
    if not path.is_file():
        raise NotFound(f"the notebook {path} is missing", hint="Reinstall the package.")
    return path
