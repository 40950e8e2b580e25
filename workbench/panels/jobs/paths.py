"""What a path means that somebody types into the jobs panel."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

#: What stands before a path to say what kind of thing is there, such as ``stamps:FILE`` (no drive letter).
_KIND = re.compile(r"[A-Za-z_]\w+:(?!//)")


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
    return _placed(text, root, is_name=_is_word)


def placed_sources(text: str, root: str, names: Collection[str] = ()) -> tuple[str, str]:
    """Do the same for paths and names with options behind a question mark, joined by ``+`` between blanks.

    A path may have braces, as ``train-{00..12}.tar`` has: then its folder must exist. A word is a name if it
    is among ``names``, or if no such file is there.

    Returns
    -------
    text, problem : str
        As of :func:`placed`.
    """
    whole, _ = _placed(text, root, is_name=lambda word: word in names)
    if whole != text:
        return whole, ""
    out, problems = [], []
    for part in re.split(r"\s\+\s", text):
        place, mark, options = part.strip().partition("?")
        kind = found[0] if (found := _KIND.match(place)) else ""
        path = place.removeprefix(kind)
        where, problem = _placed(path, root, is_name=lambda word: word in names)
        if problem and "{" in path:
            folder, problem = _placed(str(Path(path).parent), root, is_name=lambda _: False)
            where = path if problem else str(Path(folder) / Path(path).name)
        if problem and _is_word(path) and not path.endswith("/"):
            problem = ""  # perhaps a name: what takes it knows
        out.append(kind + where + mark + options)
        problems += [problem] if problem else []
    return (text, "; ".join(problems)) if problems else (" + ".join(out), "")


def placed_name(text: str, root: str) -> tuple[str, str]:
    """Do the same for a name that may look like a path, such as ``owner/model``: what exists is a path."""
    kind = found[0] if (found := _KIND.match(text)) else ""
    path, problem = _placed(text.removeprefix(kind), root, is_name=lambda _: False)
    return (text if problem else kind + path), ""


def _is_word(text: str) -> bool:
    path = Path(text)
    return len(path.parts) == 1 and not path.suffix


def _placed(text: str, root: str, *, is_name: Any) -> tuple[str, str]:
    path = Path(text).expanduser()
    if not text.strip() or "\0" in text or "://" in text or path.is_absolute() or is_name(text):
        return (str(path) if text.startswith("~") and path.is_absolute() else text), ""
    folders = {Path(root).expanduser(): "JupyterLab's folder"} if root else {}
    folders.setdefault(Path.cwd(), "the notebook's folder")
    for folder in folders:
        if _exists(folder / path):
            return str((folder / path).resolve()), ""
    looked = " and ".join(f"{folder} ({what})" for folder, what in folders.items())
    return text, f"no file {text!r} in {looked}"


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # too long
        return False


def place_options(
    options: Mapping[str, Any], fields: Iterable[Mapping[str, Any]], root: str
) -> tuple[dict[str, Any], list[list[str]]]:
    """Return options with the paths among them made absolute, and problems as pairs of option and message.

    ``fields`` are those of a form, see :func:`~workbench.panels.base.fields.form_fields`.
    """
    out, problems = dict(options), []
    for field in fields:
        name = field["name"]
        if not isinstance(out.get(name), str) or not field["path"]:
            continue
        if field["path"] == "sources":
            out[name], problem = placed_sources(out[name], root, field.get("names", ()))
        else:
            out[name], problem = (placed_name if field["path"] == "name-or-path" else placed)(out[name], root)
        if problem:
            problems.append([name, problem])
    return out, problems
