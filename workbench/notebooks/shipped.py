"""The notebooks that execute jobs: generic ones, which serve any adapter, and an adapter's own.

A generic notebook takes the options as one JSON object and calls the adapter once. An adapter may ship
notebooks of its own (:meth:`workbench.BaseAdapter.notebooks`), in which a person reads and changes the steps,
and whose parameters cell names each option.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.adapter.contract import BaseAdapter
from workbench.errors import AdapterBroken, BadInput, NotFound
from workbench.notebooks.parameters import declared_parameters
from workbench.notebooks.typed_options import RESERVED
from workbench.text import shown
from workbench.values import plain

#: Generic notebook of each standard job type.
JOB_NOTEBOOKS: Mapping[str, str] = {
    "train": "train.ipynb",
    "eval": "evaluate.ipynb",
    "index_build": "build_index.ipynb",
    "data_check": "check_data.ipynb",
}

#: Job types whose generic notebook is one of those for people: no adapter needs one of its own.
FOR_PEOPLE = frozenset({"data_check"})


def notebooks_folder() -> Path:
    """Return the folder of the notebooks for people: in the checkout, or the copy in an installed package."""
    package = Path(__file__).parents[1]
    checkout = package.parent / "notebooks"
    # A folder of that name next to an installed package may be unrelated.
    return checkout if (package.parent / "pyproject.toml").is_file() else package / "_notebooks"


def generic_folder() -> Path:
    """Return the folder of the notebooks that execute the jobs of any adapter."""
    return Path(__file__).with_name("generic")


def job_notebook(
    type: str,  # noqa: A002
    adapter: BaseAdapter | None = None,
    options: Mapping[str, Any] | None = None,
) -> Path:
    """Return the notebook that executes a job: the adapter's own, or else the generic one of its type.

    Raises
    ------
    AdapterBroken
        What the adapter returns is no path.
    NotFound
        There is no notebook for the type, or the file is missing.
    """
    own = None if adapter is None else adapter.notebook(type, dict(options or {}))
    if adapter is not None and own is not None:
        return _existing(own, adapter)
    if type not in JOB_NOTEBOOKS:
        raise NotFound(f"no notebook for job type {type!r}; known types: {', '.join(JOB_NOTEBOOKS)}")
    folder = notebooks_folder() if type in FOR_PEOPLE else generic_folder()
    path = folder / JOB_NOTEBOOKS[type]
    if not path.is_file():
        raise NotFound(f"the notebook {path} is missing", hint="Reinstall the package.")
    return path


def _existing(path: Any, adapter: BaseAdapter) -> Path:
    if not isinstance(path, Path):
        raise AdapterBroken(adapter.name, f"its notebook must be a pathlib.Path, got {shown(path)}")
    if not path.is_file():
        raise NotFound(
            f"the notebook {path} of adapter {adapter.name!r} is missing",
            hint="Reinstall the adapter's package.",
        )
    return path


def own_notebooks(adapter: BaseAdapter) -> dict[str, Path]:
    """Return an adapter's own job notebooks by job type.

    Raises
    ------
    AdapterBroken
        ``notebooks()`` does not return a mapping from job types to paths.
    NotFound
        A file is missing.
    """
    own = adapter.notebooks()
    if not isinstance(own, Mapping):
        raise AdapterBroken(adapter.name, f"notebooks() must return a mapping, got {shown(own)}")
    return {str(kind): _existing(path, adapter) for kind, path in own.items()}


def job_parameters(path: Path, adapter: str, options: Mapping[str, Any], workspace: Path) -> dict[str, Any]:
    """Return what a notebook's parameters are set to for a job.

    Options that its parameters cell names are set by name, if they differ from the cell's default; the others
    together as ``options``.

    Parameters
    ----------
    path : Path
        The notebook.
    adapter : str
        Name of the job's adapter.
    options : mapping
        All options of the job, checked, as plain JSON values.
    workspace : Path
        The workspace folder.

    Raises
    ------
    BadInput
        The notebook names some options only, and has no ``options`` for the others.
    """
    declared = {one.name: one for one in declared_parameters(path)}
    values: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for name, value in options.items():
        named = None if name in RESERVED else declared.get(name)
        if named is None:
            others[name] = value
            continue
        if isinstance(value, str) and named.type.startswith("float"):
            value = float(value)  # JSON has infinities as text only
        if not named.has_default or plain(named.default, name) != value:
            values[name] = value
    if "options" in declared:
        values |= {"options": others} if others else {}
    elif others:
        raise BadInput(
            f"{path.name} does not name the options {', '.join(others)}",
            hint=f"Run workbench notebooks sync {adapter}.",
        )
    known = {"adapter": adapter, "workspace": str(workspace)}
    return {name: value for name, value in known.items() if name in declared} | values
