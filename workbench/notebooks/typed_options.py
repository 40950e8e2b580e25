"""The parameters cell of an adapter's own notebook: one typed name per option, written from the schema.

::

    run: int | None = None  # Run. Empty: the newest run that has a checkpoint
    protocol: str = "default"  # Protocol. Rules of the metrics. One of: default, other

:func:`sync` writes it and :func:`given_options` reads the names back, so that papermill, a person and the
worker all set options by name.
"""

from __future__ import annotations

import json
import keyword
import math
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from workbench.errors import BadInput, BadOptions
from workbench.host.files import write_whole
from workbench.notebooks.parameters import read_notebook
from workbench.text import shown
from workbench.values import plain

#: Parameters that every job notebook has, or may have, beside the options; an option of such a name is given
#: in ``options`` only.
RESERVED = ("adapter", "options", "workspace", "fail_below")

#: Maximum width of a line of the cell.
WIDTH = 100

#: Names of parameter types by the type in a JSON schema.
_TYPES = {
    "integer": "int",
    "number": "float",
    "string": "str",
    "boolean": "bool",
    "array": "list",
    "object": "dict",
}

_HEAD = """\
# Options of the job, one name each. Written from the adapter's schema by
# `workbench notebooks sync {adapter}`; what you change here holds for this notebook.
"""

_TAIL = """\
# The same as one JSON object, for programs; it may not contradict a name above.
options: str = "{{}}"
adapter: str = {adapter}  # this notebook's model family
workspace: str = ""  # folder of results; empty: $WORKBENCH_HOME, or results/
"""

_FLOORS = 'fail_below: str = ""  # JSON object of floors, by metric, which fail the job\n'


def parameters_cell(schema: type[BaseModel], adapter: str, *, floors: bool = False) -> str:
    """Return the source of the parameters cell for a schema of options.

    Parameters
    ----------
    schema : type of BaseModel
        The options of one job type.
    adapter : str
        Name of the adapter.
    floors : bool
        Whether the job can be held to minimum values (``fail_below``).
    """
    described = schema.model_json_schema()
    required = described.get("required", ())
    lines = []
    for name, about in described.get("properties", {}).items():
        if not _can_be_named(name):
            continue
        assigned = f"{name}: {_annotation(about)}".rstrip(": ")
        if name not in required:
            assigned += f" = {_literal(about.get('default'))}"
        elif ":" not in assigned:
            assigned += ": object"  # a bare name would be an expression
        lines.append(_with_comment(assigned, _comment(name, about, required=name in required)))
    named = "\n".join(lines)
    tail = _TAIL.format(adapter=json.dumps(adapter)) + (_FLOORS if floors else "")
    return _HEAD.format(adapter=adapter) + (f"{named}\n\n" if named else "\n") + tail.rstrip("\n")


def is_in_step(path: Path, schema: type[BaseModel], adapter: str) -> bool:
    """Return whether a notebook's parameters cell is what the schema gives."""
    cell = _tagged(read_notebook(path), path)
    source = cell.get("source", "")
    text = source if isinstance(source, str) else "".join(source)
    return text == _expected(text, schema, adapter)


def sync(path: Path, schema: type[BaseModel], adapter: str) -> bool:
    """Write a notebook's parameters cell from the schema; return whether it changed.

    Raises
    ------
    BadInput
        The notebook is missing or unreadable, or has no cell tagged ``parameters``.
    """
    import nbformat

    if is_in_step(path, schema, adapter):
        return False
    page = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)  # type: ignore[no-untyped-call]
    cell = _tagged(page, path)
    cell["source"] = _expected(cell["source"], schema, adapter)
    text = str(nbformat.writes(page))  # type: ignore[no-untyped-call]
    write_whole(path, (text.rstrip("\n") + "\n").encode())
    return True


def _expected(text: str, schema: type[BaseModel], adapter: str) -> str:
    return parameters_cell(schema, adapter, floors="fail_below" in text)


def _tagged(page: Mapping[str, Any], path: Path) -> Any:
    for cell in page["cells"]:
        if cell.get("cell_type") == "code" and "parameters" in cell.get("metadata", {}).get("tags", ()):
            return cell
    raise BadInput(
        f"{path.name} has no cell tagged 'parameters'", hint="Tag the code cell that is to be written."
    )


def given_options(schema: type[BaseModel], names: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that a notebook's names and its ``options`` set.

    Parameters
    ----------
    schema : type of BaseModel
        The options of the job.
    names : mapping
        The names of the notebook, as ``globals()`` returns them; others than options are passed over.

    Returns
    -------
    dict
        Those that differ from the schema's default; not yet checked.

    Raises
    ------
    BadOptions
        An option is given by its name and, with another value, in ``options``.
    """
    described = schema.model_json_schema()
    named: dict[str, Any] = {}
    for name, about in described.get("properties", {}).items():
        if not _can_be_named(name) or name not in names:
            continue
        value = _read(names[name], about)
        if "default" not in about or not _same(value, about["default"]):
            named[name] = value
    together = _object(names.get("options"))
    twice = [name for name in together if name in named and not _same(named[name], together[name])]
    if twice:
        problems = [
            (name, f"given twice: {shown(named[name])}, and {shown(together[name])} in options")
            for name in twice
        ]
        said = "; ".join(f"{name}: {problem}" for name, problem in problems)
        raise BadOptions(said, problems, hint="Give each option once.")
    return named | together


def _same(one: Any, other: Any) -> bool:
    """Return whether two values are the same option; 1 and True are not."""
    try:
        return json.dumps(plain(one, "options")) == json.dumps(plain(other, "options"))
    except (BadInput, TypeError, ValueError):
        return False


def _read(value: Any, about: Mapping[str, Any]) -> Any:
    """Return a value as given; JSON text becomes a list or a dictionary where the option is one.

    ``papermill -p ks '[1, 10]'`` passes text.
    """
    kinds = set(_kinds(about))
    if not isinstance(value, str) or "string" in kinds or not kinds & {"array", "object"}:
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _object(given: Any) -> dict[str, Any]:
    read = given
    if isinstance(given, str):
        try:
            read = json.loads(given or "{}")
        except ValueError as error:
            raise BadOptions(
                f"options are not valid JSON ({error}): {shown(given)}", hint="Example: '{\"k\": 3}'."
            ) from None
    if read is None:
        return {}
    if not isinstance(read, Mapping):
        raise BadOptions(f"options must be a JSON object, got {shown(given)}", hint="Example: '{\"k\": 3}'.")
    return dict(read)


# --- the cell -----------------------------------------------------------------------------------------------


def _can_be_named(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name) and name not in RESERVED


def _kinds(about: Mapping[str, Any]) -> Iterator[str]:
    """Yield the JSON types that a property may have; ``""`` for one that is not a plain type."""
    for part in about.get("anyOf", [about]):
        if "type" in part:
            yield str(part["type"])
        elif "enum" in part or "const" in part:
            values = part.get("enum", [part.get("const")])
            yield from {"string" if isinstance(value, str) else "" for value in values}
        else:
            yield ""


def _annotation(about: Mapping[str, Any]) -> str:
    kinds = list(dict.fromkeys(_kinds(about)))
    plain_kinds = [kind for kind in kinds if kind != "null"]
    if len(plain_kinds) != 1 or plain_kinds[0] not in _TYPES:
        return ""
    return _TYPES[plain_kinds[0]] + (" | None" if "null" in kinds else "")


def _literal(value: Any) -> str:
    """Return a default as Python source, with quotes as the formatter writes them."""
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_literal(key)}: {_literal(one)}' for key, one in value.items())}}}"
    return repr(value)


def _comment(name: str, about: Mapping[str, Any], *, required: bool) -> str:
    title, description = str(about.get("title", "")), str(about.get("description", ""))
    if title.lower() == name.replace("_", " ").lower():
        title = ""  # it says no more than the name
    parts = [" ".join(part.split()) for part in (title, description)]
    allowed = _choices(about)
    if allowed and not all(choice in description for choice in allowed):
        parts.append(f"One of: {', '.join(choice or 'empty' for choice in allowed)}")
    if required:
        parts.append("Required")
    return ". ".join(part.rstrip(".") for part in parts if part)


def _choices(about: Mapping[str, Any]) -> list[str]:
    for part in (about, *about.get("anyOf", ()), about.get("items") or {}):
        if "enum" in part:
            return [str(value) for value in part["enum"]]
    return []


def _with_comment(assigned: str, comment: str) -> str:
    """Return an assignment with its comment behind it, or above it if the line would be too long."""
    if not comment:
        return assigned
    line = f"{assigned}  # {comment}"
    if len(line) <= WIDTH:
        return line
    above = textwrap.wrap(comment, WIDTH - 2, break_long_words=False, break_on_hyphens=False)
    return "\n".join([*(f"# {part}" for part in above), assigned])
