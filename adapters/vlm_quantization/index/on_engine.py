"""Shards that are encoded on an engine: in processes of this machine, or on a cluster."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import workbench as wb
from adapters.vlm_quantization.index.portable import portable
from adapters.vlm_quantization.index.shards import ShardTask, encode_shard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adapters.vlm_quantization.data.collection import OnProgress
    from adapters.vlm_quantization.index.portable import EncoderFile
    from adapters.vlm_quantization.index.shards import Shards


def encode_on_engine(
    shards: Shards,
    engine: str | wb.Engine,
    encoder: EncoderFile,
    progress: OnProgress | None = None,
    *,
    storage: str = "",
) -> None:
    """Encode the missing shards on an engine, and bring their files to where the build reads them.

    Parameters
    ----------
    shards : Shards
    engine : str or workbench.Engine
        An address, which is opened and closed here, or an engine, which is not closed.
    encoder : EncoderFile
        How workers open the model.
    progress : callable, optional
        ``progress(done, total, message)`` in items; an exception stops remote work too.
    storage : str
        A folder or URL that all workers see; empty: the shards' own folder.

    Raises
    ------
    workbench.BadInput
        The address or the storage is none, or workers cannot open the pictures.
    workbench.TaskFailed, workbench.EngineLost
        As :func:`workbench.run_tasks`.
    """
    if storage:
        wb.check_storage(storage)
    state = wb.TasksProgress(shards.planned, shards.total)
    tell = progress or (lambda done, total, message: None)
    made: list[tuple[str, Path]] = []

    def tasks() -> Iterator[wb.Task]:
        before = (0, 0)
        for number, task in enumerate(shards.missing(), 1):
            now = (shards.resumed, shards.resumed_items)
            state.was_there(now[0] - before[0], now[1] - before[1])
            before = now
            if len(task.made) == len(task.sources):  # only to be copied, which no worker need do
                encode_shard(task)
                state.was_there(1, len(task.sources))
                continue
            file = Path(task.output).absolute()
            output = f"{storage.rstrip('/')}/{file.name}" if storage else str(file)
            if storage:
                made.append((output, file))
            sent = portable(replace(task, output=""), encoder)
            yield wb.Task(f"shard {number} of {task.side}", write_shard, sent, output, len(task.sources))
        state.was_there(shards.resumed - before[0], shards.resumed_items - before[1])

    opened = nullcontext(engine) if isinstance(engine, wb.Engine) else wb.open_engine(engine)
    with opened as running:
        wb.run_tasks(
            tasks(),
            running,
            lambda state: tell(state.items, state.items_total, f"encoding: {state.words}"),
            state,
        )
    for output, file in made:
        tell(state.items, state.items_total, "fetching shards")
        wb.fetch_result(output, file)


def forget_stored(shards: Shards, storage: str) -> None:
    """Delete the shards of a finished build from the storage of its engine."""
    for file in shards.files():
        wb.delete_result(f"{storage.rstrip('/')}/{file.name}")


def write_shard(task: ShardTask, path: Path) -> None:
    """Encode a shard, wherever this runs, and write its file."""
    encode_shard(replace(task, output=str(path)))
