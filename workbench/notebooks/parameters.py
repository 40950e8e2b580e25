"""What a notebook's parameters cell declares, and a schema to check values against before anything runs.

The cell is the one tagged ``parameters``. It is read as Python source and never executed: each assignment to
a plain name at its top level declares a parameter, an annotation gives its type (else its default does), and
the comment beside it is its help::

    steps: int = 300  # how many steps to train
    name = "first"
"""

from __future__ import annotations

import ast
import io
import json
import tokenize
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, create_model
from pydantic import Field as ModelField

from workbench.adapter.options import Options, fit
from workbench.errors import BadInput, BadOptions

_TYPES: Mapping[str, Any] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": bool,
    "list": list[Any],
    "dict": dict[str, Any],
}


class Parameter(NamedTuple):
    """One parameter of a notebook.

    ``type`` is ``int``, ``float``, ``str``, ``bool``, ``list`` or ``dict``, with ``" | None"`` behind it
    where None is allowed; empty where anything is. ``has_default`` says whether ``default`` could be read: an
    expression such as ``2 * width`` stays the notebook's own business.
    """

    name: str
    type: str = ""
    default: Any = None
    has_default: bool = False
    help: str = ""


def read_notebook(path: Path) -> dict[str, Any]:
    """Return a notebook file as plain JSON.

    Raises
    ------
    BadInput
        It is not there, or is no notebook of the current format.
    """
    try:
        page = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"no notebook {str(path)!r}", hint="Give the path of an .ipynb file.") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{str(path)!r} cannot be read as a notebook: {error}") from None
    if not isinstance(page, dict) or not isinstance(page.get("cells"), list) or page.get("nbformat") != 4:
        raise BadInput(
            f"{str(path)!r} is not a notebook of format 4", hint="Open it in JupyterLab and save it again."
        )
    return page


def declared_parameters(path: Path) -> list[Parameter]:
    """Return the parameters that a notebook declares, in its order; none without a tagged cell.

    Raises
    ------
    BadInput
        The notebook, or its parameters cell, cannot be read.
    """
    for cell in read_notebook(path)["cells"]:
        if cell.get("cell_type") == "code" and "parameters" in cell.get("metadata", {}).get("tags", []):
            source = cell.get("source", "")
            try:
                return _declared(source if isinstance(source, str) else "".join(source))
            except (SyntaxError, tokenize.TokenError) as error:
                raise BadInput(f"the parameters cell of {path.name} cannot be read: {error}") from None
    return []


def parameters_model(path: Path) -> type[BaseModel]:
    """Return the schema of a notebook's parameters, for a form as of an adapter's options."""
    fields: dict[str, Any] = {}
    for parameter in declared_parameters(path):
        kind = _TYPES.get(parameter.type.removesuffix(" | None"), Any)
        if parameter.type.endswith(" | None") or not parameter.has_default:
            kind = kind | None  # without a readable default the notebook's own stands: None is "not given"
        # Under another name, since `json` or `copy` are a model's own; the alias is what people type.
        fields[f"p_{parameter.name}"] = (
            kind,
            ModelField(
                parameter.default,
                alias=parameter.name,
                title=parameter.name,
                description=parameter.help or None,
            ),
        )
    return create_model(path.stem, __base__=Options, **fields)


def check_parameters(path: Path, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the given parameters as the notebook takes them, or raise with every problem named.

    Raises
    ------
    BadOptions
        A name that is not declared, or a value of another type.
    """
    if given is not None and not isinstance(given, Mapping):
        raise BadOptions(f"parameters must be a dictionary, not {given!r}")
    given = dict(given or {})
    if given and not declared_parameters(path):
        raise BadOptions(
            f"{path.name} declares no parameters",
            [(str(name), "not declared") for name in given],
            hint="Tag one of its code cells 'parameters' and assign the names there.",
        )
    checked = fit(parameters_model(path), given, path.name)
    return {name: value for name, value in checked.model_dump(by_alias=True).items() if name in given}


def _declared(source: str) -> list[Parameter]:
    # Magics and shell commands are IPython's, not Python's; the lines keep their numbers.
    source = "\n".join("" if line.startswith(("%", "!")) else line for line in source.split("\n"))
    comments = {
        token.start[0]: token.string.lstrip("#").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found: dict[str, Parameter] = {}
    for node in ast.parse(source).body:
        target: ast.expr
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            target, value, annotation = node.target, node.value, ast.unparse(node.annotation)
        elif isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value, annotation = node.targets[0], node.value, ""
        else:
            continue
        if not isinstance(target, ast.Name):
            continue
        try:
            default, known = ast.literal_eval(value), True
            json.dumps(default)
        except (ValueError, TypeError):
            default, known = None, False
        help_ = comments.get(node.end_lineno or node.lineno, "")
        found[target.id] = Parameter(target.id, _type(annotation, default), default, known, help_)
    return list(found.values())


def _type(annotation: str, default: Any) -> str:
    """Return the name of a type that values can be checked against; empty where that is not known."""
    if annotation:
        parts = [part.strip() for part in annotation.strip("\"'").split("|")]
        if len(parts) == 1 and parts[0].startswith("Optional[") and parts[0].endswith("]"):
            parts = [parts[0][len("Optional[") : -1], "None"]
        kinds = [part.split("[")[0].lower() for part in parts if part != "None"]
        if len(kinds) != 1 or kinds[0] not in _TYPES:
            return ""
        return kinds[0] + (" | None" if "None" in parts else "")
    name = type(default).__name__
    return name if name in _TYPES else ""
