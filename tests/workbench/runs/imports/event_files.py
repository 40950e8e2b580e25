"""Event files for tests, byte by byte: quicker than TensorBoard's writer, and as odd as a test needs them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from workbench.runs.imports.events import masked_checksum

#: The time of the first record of a file, unless a test says otherwise.
NOW = 1_700_000_000.0


def framed(data: bytes, *, checked: bool = True) -> bytes:
    """Return a record that holds some bytes."""
    head = struct.pack("<Q", len(data))
    sums = [masked_checksum(one) if checked or one is head else 0 for one in (head, data)]
    return head + struct.pack("<I", sums[0]) + data + struct.pack("<I", sums[1])


def scalar(tag: str, step: int, value: float, at: float = NOW) -> Event:
    return Event(wall_time=at, step=step, summary=Summary(value=[Summary.Value(tag=tag, simple_value=value)]))


def restart(step: int, at: float = NOW) -> Event:
    return Event(wall_time=at, step=step, session_log=SessionLog(status=SessionLog.START))


def settings(at: float = NOW, **values: Any) -> Event:
    """Return the record of the hyperparameters plugin; values are numbers, texts, flags, lists, mappings."""
    content = HParamsPluginData()
    for name, value in values.items():
        into = content.session_start_info.hparams[name]
        if isinstance(value, bool):
            into.bool_value = value
        elif isinstance(value, str):
            into.string_value = value
        elif isinstance(value, (list, dict)):
            (into.list_value if isinstance(value, list) else into.struct_value).MergeFrom(_nested(value))
        else:
            into.number_value = value
    plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=content.SerializeToString())
    value = Summary.Value(tag="_hparams_/session_start_info", metadata=SummaryMetadata(plugin_data=plugin))
    return Event(wall_time=at, summary=Summary(value=[value]))


def _nested(value: Any) -> Any:
    from google.protobuf.struct_pb2 import ListValue, Struct

    out = ListValue() if isinstance(value, list) else Struct()
    if isinstance(value, list):
        out.extend(value)
    else:
        out.update(value)
    return out


def losses(first: int, values: Sequence[float], at: float = NOW) -> list[Event]:
    """Return a point of ``loss`` per step."""
    return [scalar("loss", first + number, value, at + number) for number, value in enumerate(values)]


def write(folder: Path, stamp: int, events: Sequence[Event | bytes], at: float = NOW) -> Path:
    """Write an event file, beginning with the record that says its version."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"events.out.tfevents.{stamp}.host.1.0"
    first = Event(wall_time=at, file_version="brain.Event:2")
    data = [one if isinstance(one, bytes) else one.SerializeToString() for one in (first, *events)]
    path.write_bytes(b"".join(map(framed, data)))
    return path
