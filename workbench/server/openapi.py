"""``openapi.json``, generated from the same table of routes as the handlers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from workbench import __version__
from workbench.server.api.fields import ErrorOut
from workbench.server.api.route import Route

_REF = "#/components/schemas/{model}"

_DESCRIPTIONS = {
    400: "Invalid request.",
    403: "Not logged in, or not allowed.",
    404: "Not found.",
    409: "Conflicts with the current state.",
    413: "Request body, or the answer, too large.",
    422: "Does not match the schema.",
    501: "Not offered by the adapter, or the adapter cannot be loaded.",
    503: "Busy or unavailable; `Retry-After` says when to retry.",
}


def openapi(routes: Sequence[Route], server: str) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the routes.

    Parameters
    ----------
    routes : sequence of Route
        The table.
    server : str
        The base path of all routes.
    """
    answers: list[type[BaseModel]] = [route.answer for route in routes if not route.gives_file]
    requests = [model for route in routes for model in (route.query, route.body) if model]
    inputs: set[tuple[type[BaseModel], Any]] = {(model, "validation") for model in requests}
    inputs |= {(model, "serialization") for model in answers}
    inputs.add((ErrorOut, "serialization"))
    in_order = sorted(inputs, key=lambda pair: pair[0].__name__)
    refs, definitions = models_json_schema(in_order, ref_template=_REF)
    schemas = dict(definitions.get("$defs", {}))
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(f"/{route.path}", {})[route.verb.lower()] = _operation(route, refs, schemas)
    paths["/jobs/{job_id}/events"] = {"get": _events()}
    paths["/openapi.json"] = {"get": _itself()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "workbench",
            "version": __version__,
            "description": "Jobs, runs and search of one workspace.",
        },
        "servers": [{"url": server}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "`token <the server's token>`.",
                }
            },
        },
    }


def _operation(route: Route, refs: Any, schemas: Any) -> dict[str, Any]:
    statuses = {403, 503, *route.errors}
    out: dict[str, Any] = {
        "operationId": f"{route.verb.lower()}_{re.sub(r'[^a-z]+', '_', route.path).strip('_')}",
        "summary": route.does,
        "tags": [route.path.split("/")[0]],
        "parameters": [_path_parameter(name) for name in re.findall(r"{(\w+)}", route.path)],
    }
    if out["parameters"]:
        statuses |= {400, 404}
    if route.query is not None:
        statuses |= {400, 422}
        out["parameters"] += _query_parameters(route.query, schemas)
    if route.body is not None:
        statuses |= {400, 413, 422}
        ref = refs[route.body, "validation"]
        out["requestBody"] = {"required": True, "content": {"application/json": {"schema": ref}}}
    if route.before is not None:
        out["requestBody"] = {"required": True, "content": _bytes("application/octet-stream")}
    answer = _bytes(*route.file_types) if route.gives_file else _json(refs[route.answer, "serialization"])
    out["responses"] = {str(route.status): {"description": "Success.", "content": answer}}
    if route.verb == "GET" and not route.gives_file:
        out["responses"]["304"] = {"description": "Not modified: `If-None-Match` equals its ETag."}
    out["responses"] |= {str(status): _error(status) for status in sorted(statuses)}
    return out


def _json(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _bytes(*types: str) -> dict[str, Any]:
    """Return the content of a file's bytes."""
    return {one: {"schema": {"type": "string", "format": "binary"}} for one in types}


def _error(status: int) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorOut"}}}
    out: dict[str, Any] = {"description": _DESCRIPTIONS[status], "content": content}
    if status == 503:
        out["headers"] = {
            "Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}
        }
    return out


def _path_parameter(name: str) -> dict[str, Any]:
    whole = {"type": "integer", "minimum": 1, "maximum": 2**31 - 1}
    text = {"type": "string", "minLength": 1, "maxLength": 255}
    schema = whole if name.endswith("_id") else text
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _query_parameters(model: type[BaseModel], schemas: Any) -> list[dict[str, Any]]:
    schema = model.model_json_schema(ref_template=_REF)
    schemas.pop(model.__name__, None)
    out = []
    for name, field in schema["properties"].items():
        field = {key: value for key, value in field.items() if key not in ("title", "description")}
        branches = [branch for branch in field.get("anyOf", []) if branch != {"type": "null"}]
        if len(branches) == 1:  # a URL has no null: an optional parameter is left out
            field = {**{k: v for k, v in field.items() if k not in ("anyOf", "default")}, **branches[0]}
        text = schema["properties"][name].get("description", "")
        required = name in schema.get("required", ())
        out.append({"name": name, "in": "query", "required": required, "schema": field, "description": text})
    return out


def _events() -> dict[str, Any]:
    description = (
        "Server-sent events: `progress` with the answer of `GET jobs/{job_id}/progress` whenever it changes, "
        "then `end` with the answer of `GET jobs/{job_id}`."
    )
    event = {
        "type": "object",
        "properties": {"event": {"enum": ["progress", "end", "error"]}, "data": {"type": "string"}},
    }
    stream = {"text/event-stream": {"schema": event}}
    return {
        "operationId": "get_job_events",
        "summary": "Follow a job's progress.",
        "description": description,
        "tags": ["jobs"],
        "parameters": [_path_parameter("job_id")],
        "responses": {
            "200": {"description": "A stream.", "content": stream},
            **{str(status): _error(status) for status in (400, 403, 404, 503)},
        },
    }


def _itself() -> dict[str, Any]:
    answer = {"application/json": {"schema": {"type": "object"}}}
    return {
        "operationId": "get_openapi",
        "summary": "This document.",
        "tags": ["openapi.json"],
        "responses": {
            "200": {"description": "Success.", "content": answer},
            "304": {"description": "Not modified."},
            "403": _error(403),
        },
    }
