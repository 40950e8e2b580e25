"""Types of the values of options: how each is read, checked and shown in forms."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.data.sources import NAMED, absolute_source, source_text
from adapters.vlm_quantization.towers import registry
from workbench import BadInput


def _one_text(source: Any) -> Any:
    """Return several collections as the one text that names them."""
    return source_text(source) if isinstance(source, (list, tuple)) else source


def _absolute(text: str) -> str:
    """Return a source with absolute paths."""
    try:
        return absolute_source(text) if text else text
    except BadInput as error:
        raise ValueError(error.message) from None


#: Names or paths; forms read "sources" as: paths are relative to what the reader of the form sees.
CollectionSource = Annotated[
    str,
    BeforeValidator(_one_text),
    AfterValidator(_absolute),
    Field(json_schema_extra={"format": "sources", "x-names": list(NAMED)}),
]


#: The path of a file, made absolute; empty: none.
FilePath = Annotated[str, AfterValidator(_absolute), Field(json_schema_extra={"format": "path"})]


def all_but(*shown: str) -> ConfigDict:
    """Return the setting by which a form shows these options at once, and the others on request."""

    def mark(schema: dict[str, Any]) -> None:
        schema["x-more"] = [name for name in schema["properties"] if name not in shown]

    return ConfigDict(json_schema_extra=mark)


#: The name of an encoder; a path in it becomes absolute, since a job's working directory is another.
EncoderName = Annotated[
    str, AfterValidator(registry.absolute), Field(json_schema_extra={"format": "name-or-path"})
]


def _known_lengths(lengths: tuple[int, ...]) -> tuple[int, ...]:
    """Return the distinct lengths, shortest first; refuse unsupported ones."""
    unknown = sorted(set(lengths) - set(CODE_LENGTHS))
    if unknown:
        known = ", ".join(map(str, CODE_LENGTHS))
        raise ValueError(f"unsupported code lengths {unknown}; supported: {known}")
    return tuple(sorted(set(lengths)))


Lengths = Annotated[tuple[int, ...], AfterValidator(_known_lengths)]


def _tags(value: object) -> object:
    """Split ``en, ko`` into tags, as a command line gives them."""
    if isinstance(value, str):
        return tuple(tag.strip() for tag in value.split(",") if tag.strip())
    return value


Languages = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_tags)]


#: Where the parts of a job run.
EngineAddress = Annotated[
    str,
    Field(
        title="Engine",
        description="Where parts of the job run. Empty: in the job's process; 'local:2': in two processes of "
        "this machine; 'tls://HOST:PORT?certs=DIR' or 'dask://127.0.0.1:PORT': on a Dask cluster, whose "
        "workers see the same files",
    ),
]


#: Where the parts of a job are kept meanwhile.
EngineStorage = Annotated[
    str,
    Field(
        title="Engine storage",
        description="With an engine: a folder or URL (s3://…) that all workers see, for parts until the job "
        "is done. Empty: the workspace",
    ),
]


#: How many pictures, or texts, pass through an encoder at once.
EncodingBatch = Annotated[
    int,
    Field(
        ge=0,
        le=65_536,
        title="Encoding batch size",
        description="Pictures per forward pass of the encoder; 0: found while encoding, and halved where "
        "memory is too small",
    ),
]
