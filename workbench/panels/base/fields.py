"""From a JSON schema to the fields of a form, so that a panel needs to know no adapter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def form_fields(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one field a property of an object schema, in its order.

    Parameters
    ----------
    schema : mapping
        A JSON schema as pydantic writes it.

    Returns
    -------
    list of dict
        ``name``, ``label``, ``help``, ``kind``, ``default``, ``required``, ``min``, ``max`` and
        ``choices`` (a list of ``{"value", "label"}``). The kind is ``"choice"`` for a fixed set of values,
        ``"flag"``, ``"integer"``, ``"number"``, ``"text"``, or ``"json"`` for everything else.
    """
    needed = set(schema.get("required", ()))
    return [
        _field(name, _resolved(node, schema), name in needed)
        for name, node in schema.get("properties", {}).items()
    ]


def _field(name: str, node: Mapping[str, Any], required: bool) -> dict[str, Any]:
    choices = _choices(node)
    return {
        "name": name,
        "label": str(node.get("title") or name.replace("_", " ").capitalize()),
        "help": str(node.get("description") or ""),
        "kind": "choice" if choices else _kind(node),
        "choices": choices,
        "default": node.get("default"),
        "required": required,
        "min": node.get("minimum", node.get("exclusiveMinimum")),
        "max": node.get("maximum", node.get("exclusiveMaximum")),
    }


def _resolved(node: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Follow references and drop the null of an optional; what stands beside a reference wins."""
    merged = dict(node)
    if "$ref" in merged:
        target = schema
        for part in str(merged.pop("$ref")).removeprefix("#/").split("/"):
            target = target[part]
        return _resolved({**target, **merged}, schema)
    for key in ("allOf", "anyOf", "oneOf"):
        branches = [branch for branch in merged.get(key, ()) if branch.get("type") != "null"]
        if len(branches) == 1:
            del merged[key]
            return _resolved({**branches[0], **merged}, schema)
    return merged


def _choices(node: Mapping[str, Any]) -> list[dict[str, Any]]:
    values = list(node["enum"]) if "enum" in node else [node["const"]] if "const" in node else []
    labels = node.get("x-labels", {})
    if isinstance(labels, Sequence) and not isinstance(labels, str):
        labels = {str(value): label for value, label in zip(values, labels, strict=False)}
    return [{"value": value, "label": str(labels.get(str(value), value))} for value in values]


def _kind(node: Mapping[str, Any]) -> str:
    kinds = {"boolean": "flag", "integer": "integer", "number": "number", "string": "text"}
    return kinds.get(str(node.get("type")), "json")


def initial_values(fields: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the value each field starts with; a choice without a default starts with its first."""

    def pairs() -> Iterator[tuple[str, Any]]:
        for field in fields:
            if field["default"] is not None:
                yield field["name"], field["default"]
            elif field["kind"] == "choice" and field["required"]:
                yield field["name"], field["choices"][0]["value"]

    return dict(pairs())
