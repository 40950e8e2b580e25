"""Pictures, figures, tables, texts and histograms of runs over HTTP."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field

from workbench.errors import UnknownArtifact
from workbench.runs import media
from workbench.server.api.fields import Asked, Given, from_text
from workbench.server.api.kept_files import FileQuery, opened
from workbench.server.api.route import Call
from workbench.server.api.runs import run_in_path
from workbench.server.desk import WorkbenchServer
from workbench.values import HIGHEST_STEP, LOWEST_STEP
from workbench.workspace import Workspace

_Kind = Literal["image", "figure", "table", "text", "histogram"]


class MediaQuery(FileQuery):
    """Parameters of an uploaded picture, figure, table, text or histogram."""

    kind: _Kind
    name: Annotated[str, Field(min_length=1, max_length=media.LABEL_CHARACTERS)] = Field(
        description="What it is logged as; the same name and step replace what was there."
    )
    step: Annotated[int, BeforeValidator(from_text), Field(ge=LOWEST_STEP, le=HIGHEST_STEP)]
    caption: Annotated[str, Field(max_length=media.CAPTION_CHARACTERS)] = ""


class MediaListQuery(Given):
    """A filter of media."""

    kind: _Kind | None = Field(None, description="Only of this kind.")
    name: Asked | None = Field(None, description="Only what was logged under this name.")


class MediaOut(BaseModel):
    """A picture, figure, table, text or histogram of a run."""

    file: str = Field(description="Name of its file; see `runs/{run_id}/media/{name}`.")
    kind: str
    name: str = Field(description="What it was logged as.")
    step: int
    caption: str
    size: int
    created_at: str


class MediaListOut(BaseModel):
    """The media of a run, by name and step."""

    media: list[MediaOut]


class MediaKeptOut(BaseModel):
    """Whether an upload was kept."""

    run_id: int
    kept: bool = Field(description=f"False if the run has {media.MOST_KEPT:,} files of that name already.")


async def expect_media(desk: WorkbenchServer, call: Call) -> Any:
    """Raise if a file cannot be accepted, before any of it is read."""
    media.check_label(call.query.name)
    await desk.run(lambda home: run_in_path(home, call))


async def put_media(desk: WorkbenchServer, call: Call) -> Any:
    """Keep an uploaded picture, figure, table, text or histogram, if it has the form of its kind."""
    query: MediaQuery = call.query

    def keep(home: Workspace) -> Any:
        run = run_in_path(home, call)
        call.body.check(query.sha256)
        with call.body.path.open("rb") as file:
            data = file.read(media.MEDIA_BYTES + 1)
        media.checked(query.kind, data)
        kept = run.keep_media(query.kind, query.name, data, query.step, query.caption)
        return {"run_id": run.id, "kept": kept}

    return await desk.run(keep)


async def list_media(desk: WorkbenchServer, call: Call) -> Any:
    """Return a run's media, by name and step."""
    query: MediaListQuery = call.query

    def look(home: Workspace) -> Any:
        return {
            "media": [
                {
                    "file": one.name,
                    "kind": one.kind,
                    "name": one.label,
                    "step": one.step,
                    "caption": one.caption,
                    "size": one.size,
                    "created_at": one.created_at.isoformat(),
                }
                for one in run_in_path(home, call).media(query.kind, query.name)
            ]
        }

    return await desk.run(look)


async def get_media(desk: WorkbenchServer, call: Call) -> Any:
    """Return the bytes of a picture, figure, table, text or histogram."""

    def look(home: Workspace) -> Any:
        files = run_in_path(home, call).media()
        name = call.path["name"]
        found = next((one for one in files if one.name == name), None)
        if found is None:
            raise UnknownArtifact(name, [one.name for one in files])
        return opened(found)

    return await desk.run(look)
