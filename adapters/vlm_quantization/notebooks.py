"""Where the notebooks of this family's jobs are: in a checkout, or in the installed package."""

from __future__ import annotations

from pathlib import Path

#: Notebook of each job type.
NAMES = {"train": "train.ipynb", "eval": "evaluate.ipynb", "index_build": "build_index.ipynb"}


def job_notebooks() -> dict[str, Path]:
    """Return the file of each job type's notebook."""
    package = Path(__file__).parent
    checkout = package.parents[1]
    # a folder of that name beside an installed package may be somebody else's
    is_checkout = (checkout / "pyproject.toml").is_file()
    folder = checkout / "notebooks" if is_checkout else package / "_notebooks"
    return {kind: folder / name for kind, name in NAMES.items()}
