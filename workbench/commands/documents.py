"""The document that each command prints with ``--json``: all of its keys and their types.

``workbench COMMAND --help`` ends with the same declaration, and tests check the output against it. A mapping
is an object with exactly these keys; a list with one element is a list of any length whose elements have that
shape; a pair with None may be null; and a string names a plain type: ``text``, ``number``, ``whole number``,
``true or false``, or ``object``, whose keys are not fixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Shape = str | Mapping[str, Any] | list[Any] | tuple[Any, None]

_NUMBER, _TEXT, _WHOLE = ("number", None), ("text", None), ("whole number", None)

_PROGRESS: Shape = {
    "done": "number",
    "total": _NUMBER,
    "message": "text",
    "stages": [{"name": "text", "done": "number", "total": _NUMBER}],
    "rate": _NUMBER,
    "left": _NUMBER,
    "fraction": _NUMBER,
}

#: A job without its result.
_LISTED_JOB: Mapping[str, Any] = {
    "id": "whole number",
    "type": "text",
    "name": "text",
    "adapter": "text",
    "status": "text",
    "progress": _PROGRESS,
    "summary": "text",
    "error": ("object", None),
    "notebook": _TEXT,
    "output": ({"path": "text", "size": "whole number", "changed_at": "text"}, None),
    "output_note": "text",
    "run_id": _WHOLE,
    "attempt": "whole number",
    "options": "object",
    "floors": "object",
    "source": "text",
    "created_at": "text",
    "started_at": _TEXT,
    "finished_at": _TEXT,
    "archived_at": _TEXT,
    "seconds": _NUMBER,
}

_VIEWS: Shape = [{"kind": "text", "title": "text", "data": "object", "notes": ["text"]}]

_RESULT: Shape = {
    "summary": "text",
    "metrics": "object",
    "headline": ["text"],
    "views": _VIEWS,
    "made": "object",
    "warnings": ["text"],
    "samples": ["object"],
}

_SIDE: Shape = {"by": "text", "caption": "text", "subtitle": "text", "id": "text"}

_JOB: Shape = {**_LISTED_JOB, "result": (_RESULT, None)}

_RUN: Mapping[str, Any] = {
    "id": "whole number",
    "name": "text",
    "experiment": "text",
    "status": "text",
    "job_id": _WHOLE,
    "created_at": _TEXT,
    "notes": "text",
    "config": "object",
    "summary": "object",
}

_FILE: Shape = {"name": "text", "size": "whole number"}

#: Parts of the cache that are there, or that were deleted.
_CACHE: Shape = {
    "workspace": "text",
    "parts": [{"name": "text", "files": "whole number", "bytes": "whole number"}],
    "bytes": "whole number",
}

#: What every command prints instead when it fails.
ERROR: Shape = {"error": {"type": "text", "message": "text", "hint": "text", "advice": "text"}}

#: By the words of the command.
DOCUMENTS: Mapping[str, Shape] = {
    "demo": {
        "workspace": "text",
        "jobs": [{"id": "whole number", "type": "text", "status": "text", "notebook": "text"}],
        "run": {"id": _WHOLE},
        "index": {"name": _TEXT},
        "metrics": "object",
    },
    "jobs submit": _JOB,
    "jobs list": {"jobs": [_LISTED_JOB]},
    "jobs show": _JOB,
    "jobs logs": {"id": "whole number", "lines": ["text"], "output": _TEXT, "output_note": "text"},
    "jobs cancel": _LISTED_JOB,
    "data check": {
        "source": "text",
        "adapter": "text",
        "thorough": "true or false",
        "folder": "text",
        "result": _RESULT,
    },
    "cache show": _CACHE,
    "cache clear": _CACHE,
    "cluster certs": {"certificate": "text", "key": "text"},
    "cluster start": {"engine": "text", "workers": "whole number"},
    "cluster join": {"engine": "text", "workers": "whole number"},
    "worker": {"worker": "text", "workspace": "text"},
    "runs": {"runs": [_RUN]},
    "runs show": {
        **_RUN,
        "seed": _WHOLE,
        "git": "object",
        "environment": "object",
        "origin": _TEXT,
        "tags": "object",
        "error": ("object", None),
        "archived": "true or false",
        "seconds": _NUMBER,
        "finished_at": _TEXT,
        "checkpoints": [_FILE],
        "artifacts": [_FILE],
        "media": [_FILE],
    },
    **{
        f"{many} {verb}": shape
        for many in ("runs", "jobs", "experiments", "indexes")
        for verb, shape in (
            ("rename", {"renamed": "text", "name": "text"}),
            ("archive", {"archived": ["text"]}),
            ("restore", {"restored": ["text"]}),
            ("delete", {"deleted": "object"}),
        )
    },
    "experiments list": {"experiments": [{"name": "text", "runs": "whole number"}]},
    "indexes list": {"indexes": [{"name": "text"}]},
    "compare": {
        "statistic": "text",
        "baseline": _WHOLE,
        "runs": [{"id": "whole number", "name": "text", "experiment": "text", "status": "text"}],
        "config": [{"key": "text", "values": ["text"], "differs": "true or false", "odd": ["true or false"]}],
        "final": [
            {
                "name": "text",
                "better": _TEXT,
                "description": "text",
                "values": [_NUMBER],
                "texts": ["text"],
                "deltas": ["text"],
                "best": ["true or false"],
            }
        ],
    },
    "search": {
        "hits": [{"id": "text", "score": "number", "distance": _NUMBER, "caption": "text", "path": "text"}],
        "took_ms": "object",
        "note": "text",
        "cutoff": _WHOLE,
    },
    "explain": {"index": "text", "summary": "text", "left": _SIDE, "right": _SIDE, "views": _VIEWS},
    "index": {
        "job": "whole number",
        "index": {
            "name": "text",
            "pictures": _WHOLE,
            "skipped": [{"path": "text", "reason": "text"}],
        },
        "encoder": "text",
        "codes": "text",
        "summary": "text",
    },
    "serve": {"url": "text", "workspace": "text", "index": _TEXT},
    "doctor": {
        "found": "object",
        "problems": [{"level": "text", "check": "text", "message": "text", "hint": "text"}],
        "repairs": {"changes": ["text"], "backup": "text"},
    },
    "import mlflow": {
        "new": "whole number",
        "changed": "whole number",
        "unchanged": "whole number",
        "points": "whole number",
        "run_ids": ["whole number"],
        "passed_over": "object",
        "notes": ["text"],
    },
    "import tensorboard": {
        "new": "whole number",
        "changed": "whole number",
        "unchanged": "whole number",
        "points": "whole number",
        "run_ids": ["whole number"],
        "passed_over": "object",
        "notes": ["text"],
    },
    "metrics": {"adapter": "text", "task": "text", "metrics": [{"name": "text", "better": "text"}]},
    "notebooks sync": {
        "adapter": "text",
        "notebooks": [{"type": "text", "path": "text", "changed": "true or false"}],
    },
    "new adapter": {"name": "text", "folder": "text", "files": ["text"]},
    "completion": {"shell": "text", "script": "text"},
}


def in_words(shape: Shape) -> str:
    """Return a shape on one line, in the style of JSON: ``{"id": whole number, …}``."""
    if isinstance(shape, str):
        return shape
    if isinstance(shape, Mapping):
        return "{" + ", ".join(f'"{key}": {in_words(value)}' for key, value in shape.items()) + "}"
    if isinstance(shape, tuple):
        return f"{in_words(shape[0])} or null"
    return f"[{in_words(shape[0])}, …]"
