"""What comments, docstrings and texts name is there: modules, classes, functions, settings."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

#: Alembic runs these by path: they are no modules that anybody imports.
_RUN_BY_PATH = "migrations/env.py", "migrations/versions/"

#: ``:func:`~package.module.name```, with or without a title before it.
_REFERENCE = re.compile(r":(?:mod|class|func|meth|data|attr|exc):`(?:[^`<]*<)?[~!]?([\w.]+)>?`")

#: A dotted name of ours, anywhere in a text. A file (workbench.db) is none.
_DOTTED = re.compile(r"(?<![\w./-])(?:workbench|adapters\.vlm_quantization)(?:\.\w+)+(?!\w*[/-])")
_FILES = {"workbench.db", "workbench.json"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_name(path): path
    for top in ("workbench", "adapters")
    for path in sorted((ROOT / top).rglob("*.py"))
    if not any(place in path.as_posix() for place in _RUN_BY_PATH)
}


def has(thing: Any, name: str) -> bool:
    """Whether an object has an attribute; of a class also those that its instances have."""
    if hasattr(thing, name):
        return True
    if not inspect.isclass(thing):
        return False
    for kind in thing.__mro__:
        if name in getattr(kind, "__annotations__", {}):
            return True
        home = MODULES.get(kind.__module__)
        if home and re.search(rf"\bself\.{name}\b.*=", inspect.getsource(kind)):
            return True
    return False


def resolves(name: str, start: Any = None) -> bool:
    """Whether a dotted name is a module, or something in one; or in ``start``, if that is given."""
    *above, last = name.split(".")
    if start is not None:
        for part in above:
            if not hasattr(start, part):
                return False
            start = getattr(start, part)
        return has(start, last)
    for cut in range(len(above) + 1, 0, -1):
        try:
            found = importlib.import_module(".".join([*above, last][:cut]))
        except ModuleNotFoundError:
            continue
        rest = [*above, last][cut:]
        return not rest or resolves(".".join(rest), found)
    return False


def for_type_checkers(tree: ast.Module) -> dict[str, str]:
    """Return what a module imports for type checkers only, by the name it has there."""
    return {
        name.asname or name.name: f"{node.module}.{name.name}"
        for test in tree.body
        if isinstance(test, ast.If) and ast.unparse(test.test) == "TYPE_CHECKING"
        for node in ast.walk(test)
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }


def dangling(module: str, text: str) -> Iterator[str]:
    """Yield the cross-references of a module that lead nowhere, each with its line."""
    tree = ast.parse(text)
    here = importlib.import_module(module)
    typed = for_type_checkers(tree)
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    for match in _REFERENCE.finditer(text):
        line, name = text.count("\n", 0, match.start()) + 1, match[1]
        first, _, rest = name.partition(".")
        inside = [node.name for node in classes if node.lineno <= line <= (node.end_lineno or 0)]
        if (
            resolves(name, here)
            or any(resolves(name, getattr(here, one)) for one in inside if hasattr(here, one))
            or resolves(name)
            or (first in typed and resolves(".".join(filter(None, [typed[first], rest]))))
        ):
            continue
        yield f"line {line}: {match[0]}"


@pytest.mark.parametrize("module", MODULES)
def test_every_cross_reference_leads_somewhere(module: str) -> None:
    assert list(dangling(module, MODULES[module].read_text(encoding="utf-8"))) == []


def test_a_reference_that_leads_nowhere_is_seen() -> None:
    text = "# :mod:`workbench.tracking`, :class:`Store`, :meth:`Store.fly`, :data:`~workbench.wire.STATUS`"
    assert list(dangling("workbench.store.store", text)) == [
        "line 1: :mod:`workbench.tracking`",
        "line 1: :meth:`Store.fly`",
    ]


def texts() -> list[Path]:
    """Every file in which a module may be named, tests aside."""
    kinds = {".py", ".js", ".css", ".tmpl", ".json", ".j2", ".mako", ".md"}
    found = [
        path
        for top in ("workbench", "adapters")
        for path in (ROOT / top).rglob("*")
        if path.suffix in kinds and "__pycache__" not in path.parts
    ]
    tops = ["README.md", "pyproject.toml", ".pre-commit-config.yaml", ".ci/run"]
    return [*found, *(ROOT / name for name in tops), *(ROOT / "notebooks").glob("*.ipynb")]


def test_every_dotted_name_of_ours_is_there() -> None:
    """In comments, command lines, settings and pages too, where no import would fail."""
    missing = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in texts()
        for name in _DOTTED.findall(path.read_text(encoding="utf-8"))
        if name not in _FILES and not resolves(name)
    }
    assert missing == set()
