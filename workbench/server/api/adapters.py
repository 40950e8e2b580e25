"""Adapters over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from pydantic import BaseModel, Field

from workbench.adapter.registry import adapters
from workbench.errors import BadInput, UnknownAdapter, WorkbenchError
from workbench.server.api.route import Call
from workbench.server.desk import WorkbenchServer


class MetricOut(BaseModel):
    """A metric that an adapter reports, or a pattern that matches several."""

    name: str
    better: Literal["higher", "lower"] | None
    format: str
    description: str


class AdapterOut(BaseModel):
    """A model family."""

    name: str
    title: str
    job_types: list[str]
    options: dict[str, dict[str, Any]] = Field(
        description="JSON schemas of the options by job type, and of `search`."
    )
    metrics: list[MetricOut]
    problem: str = Field(description="Why the adapter cannot be used; empty if it can.")
    hint: str = Field(description="What to do about the problem; empty if there is none.")


class AdaptersOut(BaseModel):
    """The model families."""

    adapters: list[AdapterOut]


# Adapters and jobs -----------------------------------------------------------------------------


async def list_adapters(desk: WorkbenchServer, call: Call) -> Any:
    """List all adapters; one that fails is listed with its problem."""
    names = adapters()
    answers = await asyncio.gather(
        *(desk.ask(op="adapter", adapter=name) for name in names), return_exceptions=True
    )
    listed = []
    for name, answer in zip(names, answers, strict=True):
        if isinstance(answer, WorkbenchError):
            empty = {"title": name, "job_types": [], "options": {}, "metrics": []}
            listed.append({"name": name, **empty, "problem": answer.message, "hint": answer.help})
        elif isinstance(answer, BaseException):
            raise answer
        else:
            listed.append({**answer, "problem": "", "hint": ""})
    return {"adapters": listed}


async def get_adapter(desk: WorkbenchServer, call: Call) -> Any:
    """Describe an adapter."""
    name = call.path["name"]
    if name not in (names := adapters()):
        raise UnknownAdapter(name, names)
    return {**await desk.ask(op="adapter", adapter=name), "problem": "", "hint": ""}


def only_adapter() -> str:
    """Return the name of the only installed adapter."""
    names = adapters()
    if not names:
        raise UnknownAdapter("", ())
    if len(names) > 1:
        raise BadInput(f"which adapter? Installed: {', '.join(names)}", hint="Give its name.")
    return names[0]
