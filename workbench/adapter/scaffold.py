"""``workbench new adapter``: a working package, to change one part at a time."""

from __future__ import annotations

import keyword
import os
import re
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from string import Template

from workbench.adapter.registry import adapters, get_adapter
from workbench.errors import BadInput, BadName

_TEMPLATE = Path(__file__).parent / "template"


_SUFFIX = ".tmpl"


#: Package names that would conflict with ours or with the tests'.
_TAKEN = frozenset({"workbench", "adapters", "tests", "test"})


def write_adapter(name: str, into: Path, parts_of: str = "") -> tuple[Path, list[str]]:
    """Write an adapter's package with its contract test and ``pyproject.toml``, completely or not at all.

    Parameters
    ----------
    name : str
        Name of the adapter and its package: lower-case letters, digits and ``_``, starting with a letter.
    into : Path
        The folder in which to create the folder ``name``.
    parts_of : str
        An installed adapter whose parts the new one is made of; empty: a complete one of its own.

    Returns
    -------
    folder : Path
        The new folder.
    files : list of str
        The files in it.

    Raises
    ------
    BadName
        The name is not a valid package name, or is already in use.
    BadInput
        The folder already exists or cannot be created, or ``parts_of`` has no starter files.
    UnknownAdapter
        No adapter ``parts_of`` is installed.
    """
    _check(name)
    templates = [_TEMPLATE, *_template_of(parts_of)]
    target = Path(into).expanduser().resolve() / name
    if target.exists() or target.is_symlink():
        raise BadInput(f"{target} already exists", hint="Choose another name or another --into.")
    words = {"name": name, "distribution": f"workbench-{name.replace('_', '-')}"}
    words["title"] = name.replace("_", " ").capitalize()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=target.parent))
    except OSError as error:
        raise BadInput(f"{target} cannot be created: {error.strerror or error}") from None
    try:
        files = _fill(beside, templates, words)
        beside.chmod(0o777 & ~_umask())
        os.rename(beside, target)  # noqa: PTH104  # fails if the folder is not empty
    except OSError as error:
        raise BadInput(f"{target} cannot be created: {error.strerror or error}") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return target, files


def _check(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,60}", name) or keyword.iskeyword(name):
        rule = "use lower-case letters, digits and _, starting with a letter, and no Python keyword"
        near = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_0123456789")
        hint = f"For example: {near!r}" if near and near != name and not keyword.iskeyword(near) else ""
        raise BadName(f"invalid adapter name {name!r}: {rule}", hint=hint or "For example: 'my_model'")
    if name in adapters():
        raise BadName(f"an adapter {name!r} is already installed", hint="Choose another name.")
    if name in _TAKEN or name in sys.stdlib_module_names or find_spec(name) is not None:
        message = f"a package {name!r} already exists and would conflict with the adapter's"
        raise BadName(message, hint=f"Choose another name, such as '{name}_search'.")


def _template_of(adapter: str) -> list[Path]:
    if not adapter:
        return []
    folder = get_adapter(adapter).template()
    if folder is None:
        offering = [one for one in adapters() if get_adapter(one).template() is not None]
        known = f"Adapters that have some: {', '.join(offering)}." if offering else "No adapter has any."
        raise BadInput(f"adapter {adapter!r} has no starter files for a new one", hint=known)
    return [folder]


def _fill(folder: Path, templates: list[Path], words: dict[str, str]) -> list[str]:
    """Write the files of the templates; a later one's file stands for an earlier one's of the same name."""
    sources = {path.relative_to(root): path for root in templates for path in root.rglob(f"*{_SUFFIX}")}
    files = []
    for relative, source in sorted(sources.items()):
        first, *rest = relative.parts
        path = folder.joinpath(words["name"] if first == "package" else first, *rest)
        path = path.with_name(path.name.removesuffix(_SUFFIX))
        path.parent.mkdir(exist_ok=True)
        path.write_text(Template(source.read_text(encoding="utf-8")).substitute(words), encoding="utf-8")
        files.append(path.relative_to(folder).as_posix())
    return files


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
