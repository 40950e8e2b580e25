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

from workbench.adapter.registry import adapters
from workbench.errors import BadInput, BadName

_TEMPLATE = Path(__file__).parent / "template"


_SUFFIX = ".tmpl"


#: Package names that would conflict with ours or with the tests'.
_TAKEN = frozenset({"workbench", "adapters", "tests", "test"})


def write_adapter(name: str, into: Path) -> tuple[Path, list[str]]:
    """Write an adapter's package with its contract test and ``pyproject.toml``, completely or not at all.

    Parameters
    ----------
    name : str
        Name of the adapter and its package: lower-case letters, digits and ``_``, starting with a letter.
    into : Path
        The folder in which to create the folder ``name``.

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
        The folder already exists, or cannot be created.
    """
    _check(name)
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
        files = _fill(beside, words)
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


def _fill(folder: Path, words: dict[str, str]) -> list[str]:
    files = []
    for source in sorted(_TEMPLATE.rglob(f"*{_SUFFIX}")):
        first, *rest = source.relative_to(_TEMPLATE).parts
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
