"""Read the parameters that a notebook declares, and check values against them before it runs.

The parameters cell is the one tagged ``parameters``. It is parsed as Python source and never executed: each
top-level assignment to a plain name declares a parameter, its type comes from an annotation (otherwise from
the default), and the comment after it is its help text. An annotation without a value declares a parameter
that must be given::

    steps: int = 300  # how many steps to train
    name = "first"
    source: str  # required

Magics and shell commands of IPython may stand in it as anywhere else.
"""

from __future__ import annotations

import ast
import io
import json
import tokenize
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from workbench.errors import BadInput, BadOptions
from workbench.notebooks.language import check_language
from workbench.text import listed, nearest, shown

if TYPE_CHECKING:
    from pydantic import BaseModel

#: First line of the cell that papermill injects.
_INJECTED = "# Parameters\n"


_TYPES: Mapping[str, Any] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": bool,
    "list": list[Any],
    "dict": dict[str, Any],
}

#: Cell magics that run the rest of their cell as Python, in the notebook's own names.
_PYTHON_MAGICS = (["time"], ["capture"])


class Parameter(NamedTuple):
    """One parameter of a notebook.

    ``type`` is ``int``, ``float``, ``str``, ``bool``, ``list`` or ``dict``, followed by ``" | None"`` if None
    is allowed, and empty if any value is. ``has_default`` tells whether ``default`` could be read;
    expressions such as ``2 * width`` are left to the notebook. ``required`` tells that it has no value.
    """

    name: str
    type: str = ""
    default: Any = None
    has_default: bool = False
    help: str = ""
    required: bool = False


def read_notebook(path: Path) -> dict[str, Any]:
    """Return a notebook file as plain JSON.

    Raises
    ------
    BadInput
        It is missing, or is not a notebook of format 4.
    """
    try:
        page = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"notebook {str(path)!r} not found", hint="Give the path of an .ipynb file.") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{str(path)!r} cannot be read as a notebook: {error}") from None
    if not isinstance(page, dict) or not isinstance(page.get("cells"), list) or page.get("nbformat") != 4:
        raise BadInput(
            f"{str(path)!r} is not a notebook of format 4", hint="Open it in JupyterLab and save it again."
        )
    return page


def declared_parameters(path: Path) -> list[Parameter]:
    """Return the parameters that a notebook declares, in order; none without a tagged cell.

    Raises
    ------
    BadInput
        The notebook, or its parameters cell, cannot be read, or it is not written in Python.
    """
    page = read_notebook(path)
    check_language(page, path.name)
    for cell in page["cells"]:
        if cell.get("cell_type") == "code" and "parameters" in cell.get("metadata", {}).get("tags", []):
            source = cell.get("source", "")
            try:
                return _declared(source if isinstance(source, str) else "".join(source))
            except (SyntaxError, tokenize.TokenError) as error:
                raise BadInput(f"the parameters cell of {path.name} cannot be read: {error}") from None
    return []


def parameters_model(path: Path) -> type[BaseModel]:
    """Return the schema of a notebook's parameters, for a form like that of an adapter's options."""
    from pydantic import Field as ModelField  # the process of a job, which needs no schema, starts sooner
    from pydantic import create_model

    from workbench.adapter.options import Options

    fields: dict[str, Any] = {}
    for parameter in declared_parameters(path):
        kind = _TYPES.get(parameter.type.removesuffix(" | None"), Any)
        unset = not parameter.has_default and not parameter.required
        if parameter.type.endswith(" | None") or unset:
            kind = kind | None  # None means "not set": the notebook's own default then applies
        # Prefixed, since names such as `json` or `copy` are taken by the model; users type the alias.
        fields[f"p_{parameter.name}"] = (
            kind,
            ModelField(
                ... if parameter.required else parameter.default,
                alias=parameter.name,
                title=parameter.name,
                description=parameter.help or None,
            ),
        )
    return create_model(path.stem, __base__=Options, **fields)


def check_parameters(path: Path, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return parameters with their values converted to the declared types.

    Raises
    ------
    BadOptions
        A name is not declared, or a value has another type; the error lists all problems.
    """
    from workbench.adapter.options import fit

    if given is not None and not isinstance(given, Mapping):
        raise BadOptions(f"parameters must be a dictionary, got {shown(given)}")
    given = dict(given or {})
    if given and not declared_parameters(path):
        raise BadOptions(
            f"{path.name} does not declare any parameters",
            [(str(name), "not declared") for name in given],
            hint="Tag one of its code cells 'parameters' and assign the names there.",
        )
    missing = [one.name for one in declared_parameters(path) if one.required and one.name not in given]
    if missing:
        raise BadOptions(
            f"{path.name} needs a value for {', '.join(map(repr, missing))}",
            [(name, "required; its parameters cell declares it without a value") for name in missing],
            hint="Give a value, or assign a default in the notebook's parameters cell.",
        )
    checked = fit(parameters_model(path), given, path.name)
    return {name: value for name, value in checked.model_dump(by_alias=True).items() if name in given}


def check_injected(cells: Sequence[str]) -> None:
    """Raise if papermill has injected a parameter that the notebook does not declare.

    Papermill only prints a note about such a name and goes on with the default of the one that was meant, so
    a misspelled floor would hold for nothing.

    Parameters
    ----------
    cells : sequence of str
        The sources of the cells executed so far, oldest first. Papermill puts its cell right behind the
        parameters cell, and before all others if there is none; then nothing is declared or checked.

    Raises
    ------
    BadOptions
        A name is not declared; the error lists all of them, each with the nearest one that is.
    """
    for before, cell in pairwise(cells):
        if not cell.startswith(_INJECTED) or not before.strip():
            continue
        try:
            declared = _assigned(before)
            unknown = [name for name in _assigned(cell) if name not in declared]
        except SyntaxError:
            continue
        if not declared or not unknown:
            continue
        problems = []
        for name in unknown:
            near = nearest(name, declared)
            meant = f"did you mean {near[0]!r}?" if near else f"declared: {listed(declared)}"
            problems.append((name, f"unknown parameter; {meant}"))
        said = "; ".join(f"{name}: {problem}" for name, problem in problems)
        raise BadOptions(said, problems, hint="Pass only parameters that the parameters cell assigns.")


def _assigned(source: str) -> list[str]:
    """Return the names that a cell assigns, in order."""
    names = (node for node in ast.walk(_parsed(source)[0]) if isinstance(node, ast.Name))
    return list(dict.fromkeys(node.id for node in names if isinstance(node.ctx, ast.Store)))


def _declared(source: str) -> list[Parameter]:
    tree, source = _parsed(source)
    comments = {
        token.start[0]: token.string.lstrip("#").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    parameters: dict[str, Parameter] = {}
    for node in tree.body:
        target: ast.expr
        value: ast.expr | None
        if isinstance(node, ast.AnnAssign):
            target, value, annotation = node.target, node.value, ast.unparse(node.annotation)
        elif isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value, annotation = node.targets[0], node.value, ""
        else:
            continue
        if not isinstance(target, ast.Name):
            continue
        help_ = comments.get(node.end_lineno or node.lineno, "")
        if value is None:
            if target.id not in parameters:
                kind = _type(annotation, None)
                parameters[target.id] = Parameter(target.id, kind, help=help_, required=True)
            continue
        try:
            default, known = ast.literal_eval(value), True
            json.dumps(default)
        except (ValueError, TypeError):
            default, known = None, False
        parameters[target.id] = Parameter(target.id, _type(annotation, default), default, known, help_)
    return list(parameters.values())


def _parsed(source: str) -> tuple[ast.Module, str]:
    """Return the syntax tree of a cell, and the Python source that it belongs to.

    Cells with magics, shell commands or ``name?`` are translated to Python as IPython does.
    """
    try:
        return ast.parse(source), source
    except SyntaxError:
        from IPython.core.inputtransformer2 import TransformerManager

        first, _, rest = source.lstrip().partition("\n")
        if first.startswith("%%"):
            # The rest of the cell is this magic's: Python if it only watches the cell run.
            source = rest if first[2:].split()[:1] in _PYTHON_MAGICS else ""
        source = TransformerManager().transform_cell(source)  # type: ignore[no-untyped-call]
        return ast.parse(source), source


def _type(annotation: str, default: Any) -> str:
    """Return the name of the type to check values against; empty if unknown."""
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
