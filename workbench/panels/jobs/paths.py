"""What a path means that somebody types into the jobs panel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def placed(text: str, root: str) -> tuple[str, str]:
    """Return the absolute path that a typed one stands for, and why there is none.

    A relative path starts in JupyterLab's folder, as its file browser shows it, or else in the folder of the
    kernel's notebook.

    Parameters
    ----------
    text : str
        What was typed. A word without a slash and a suffix is taken for a name and stays as it is.
    root : str
        JupyterLab's folder; empty if unknown, ``~`` for the home folder.

    Returns
    -------
    path, problem : str
        The path, or the text itself; and a message if it is a path at which nothing is.
    """
    path = Path(text).expanduser()
    is_name = len(path.parts) == 1 and not path.suffix
    if not text.strip() or "\0" in text or "://" in text or path.is_absolute() or is_name:
        return text, ""
    folders = {Path(root).expanduser(): "JupyterLab's folder"} if root else {}
    folders.setdefault(Path.cwd(), "the notebook's folder")
    for folder in folders:
        if (folder / path).exists():
            return str((folder / path).resolve()), ""
    looked = " and ".join(f"{folder} ({what})" for folder, what in folders.items())
    return text, f"no file {text!r} in {looked}"


def place_options(
    options: Mapping[str, Any], names: Iterable[str], root: str
) -> tuple[dict[str, Any], list[list[str]]]:
    """Return options with the paths among them made absolute, and problems as pairs of option and message."""
    out, problems = dict(options), []
    for name in names:
        if isinstance(out.get(name), str):
            out[name], problem = placed(out[name], root)
            if problem:
                problems.append([name, problem])
    return out, problems
