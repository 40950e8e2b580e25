"""Check the options of an adapter's tasks against its schemas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workbench.adapter.contract import DATA_CHECK, JOB_METHODS, BaseAdapter
from workbench.errors import BadInput, BadOptions, NotSupported
from workbench.text import listed, nearest, shown

#: Number of valid options that an error about an unknown one lists.
_LISTED_NAMES = 12


def check_job(family: BaseAdapter, type: str, options: Any) -> Any:  # noqa: A002
    """Return a job's checked options, or raise an error that names what is wrong with its type or options."""
    if type not in (offered := job_types(family)):
        known = type in (*JOB_METHODS, DATA_CHECK)
        if known:
            raise NotSupported(family.name, f"{type} jobs", hint=f"It offers: {', '.join(offered) or 'none'}")
        raise BadInput(
            f"unknown job type {shown(type)}. Adapter {family.name!r} offers: {', '.join(offered) or 'none'}"
        )
    if options is not None and not isinstance(options, (Mapping, BaseModel)):
        raise BadOptions(f"options must be a dictionary, got {shown(options)}")
    return check_options(family, type, options)


def job_types(family: BaseAdapter) -> list[str]:
    """Return the job types of an adapter, with the check of data if it offers one."""
    return [*family.job_types(), *([DATA_CHECK] if family.offers("check_data") else [])]


class Options(BaseModel):
    """Base class for options: rejects unknown names, and validates defaults."""

    model_config = ConfigDict(extra="forbid", validate_default=True)


class DataCheck(Options):
    """Say what a source of data holds, what is broken in it, and what a training would use."""

    source: str = Field(
        title="Data",
        description="What a training would take: a name or a path",
        min_length=1,
        json_schema_extra={"format": "sources"},
    )
    thorough: bool = Field(False, title="Thorough", description="Open every file whole; this can take long")


def schema_of(family: BaseAdapter, task: str) -> type[BaseModel]:
    """Return the schema of a task's options; for a check of data that an adapter does not declare, ours.

    Raises
    ------
    NotSupported
        The adapter does not have the task.
    """
    if task != DATA_CHECK:
        return family.options(task)
    if not family.offers("check_data"):
        raise NotSupported(family.name, "check_data")
    try:
        return family.options(task)
    except NotSupported:
        return DataCheck


def check_options(adapter: BaseAdapter, task: str, options: Mapping[str, Any] | BaseModel | None) -> Any:
    """Check options against an adapter's schema and return the model, with defaults filled in.

    Raises
    ------
    BadOptions
        Options are invalid; the error lists all problems, each with its field.
    NotSupported
        The adapter does not have the task.
    """
    schema = schema_of(adapter, task)
    if isinstance(options, schema):
        return options
    raw = options.model_dump() if isinstance(options, BaseModel) else dict(options or {})
    return fit(schema, raw, f"{adapter.name} {task}")


def fit(schema: type[BaseModel], raw: Mapping[str, Any], what: str) -> Any:
    """Return values as a validated model of a schema.

    Raises
    ------
    BadOptions
        Values are invalid; the error lists all problems, each with its field, and begins with ``what``.
    """
    try:
        return schema.model_validate(raw)
    except ValidationError as error:
        names = [field.alias or name for name, field in schema.model_fields.items()]
        problems = []
        for problem in error.errors(include_url=False):
            where = ".".join(str(part) for part in problem["loc"])
            message = problem["msg"].removeprefix("Value error, ")
            if problem["type"] == "extra_forbidden":
                near = nearest(problem["loc"][-1], names)
                meant = f"did you mean {near[0]!r}?" if near else f"allowed: {listed(names, _LISTED_NAMES)}"
                message = f"unknown option; {meant}"
            problems.append((where, f"{message} (got {shown(problem['input'])})"))
        text = "; ".join(f"{where}: {message}" if where else message for where, message in problems)
        raise BadOptions(f"{what}: {text}", problems) from None
