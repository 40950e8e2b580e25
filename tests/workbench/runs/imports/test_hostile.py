"""Thousands of broken event files and MLflow folders: what is sound beside them is always brought.

The cases are drawn from fixed seeds: the same in every run, and more of them with ``--long``.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.util.tensor_util import make_tensor_proto

import workbench as wb
from tests.workbench.runs.imports.event_files import NOW, framed, restart, scalar, settings, write
from tests.workbench.runs.imports.test_mlflow_files import GOOD, OTHER, add_run
from workbench.runs.imports.events import Damaged, Scalar, Start, read_events
from workbench.runs.imports.mlflow_files import runs_in_folder
from workbench.runs.imports.report import Report

#: Number of cases of each kind, and with ``--long``.
RECORDS, FILES, STORES = (800, 50_000), (300, 10_000), (60, 1500)


@pytest.fixture
def number(request: pytest.FixtureRequest) -> Callable[[tuple[int, int]], int]:
    """Choose between the few cases and the many."""
    return lambda cases: cases[bool(request.config.getoption("--long"))]


def tensor(kind: str) -> Event:
    plugin = SummaryMetadata.PluginData(plugin_name="scalars")
    proto = make_tensor_proto(np.array(1, kind))
    value = Summary.Value(tag="t", metadata=SummaryMetadata(plugin_data=plugin), tensor=proto)
    return Event(wall_time=NOW, step=1, summary=Summary(value=[value]))


BASES = [
    one.SerializeToString()
    for one in (
        scalar("loss", 3, 0.5),
        restart(3),
        settings(lr=0.1, name="강", on=True, list=[1, [2, {"a": "b"}]], deep={"a": {"b": [1.0]}}),
        *(tensor(kind) for kind in ("float32", "float64", "int64", "uint8", "bool", "float16")),
        Event(wall_time=NOW, graph_def=b"x" * 30),
    )
]

#: What is written over a part: extreme numbers of both forms, and fields of every type.
PIECES = [
    b"\xff" * 9 + b"\x01", b"\xff" * 12, b"\x80", b"\0" * 8, b"\xff" * 8, b"\x7f\xf0\0\0\0\0\0\0"[::-1],
    *(bytes([field << 3 | kind]) for field in range(1, 12) for kind in range(8)),
]  # fmt: skip


def mutated(data: bytes, random: Random) -> bytes:
    """Return data with one to four changes."""
    out = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at, end = sorted(random.randrange(len(out) + 1) for _ in range(2))
        match random.randrange(6):
            case 0 if out:
                out[random.randrange(len(out))] ^= 1 << random.randrange(8)
            case 1:
                del out[at : min(end, at + 8)]
            case 2:
                out[at:at] = random.choice(PIECES)
            case 3:
                out[at : at + 2] = random.choice(PIECES)
            case 4:
                out[at:at] = out[at:end]
            case _:
                out[at:end] = random.randbytes(min(end - at, 12))
    return bytes(out)


def test_a_mutated_record_costs_at_most_itself(
    tmp_path: Path, workspace: wb.Workspace, number: Callable[[tuple[int, int]], int]
) -> None:
    records = [mutated(BASES[seed % len(BASES)], Random(seed)) for seed in range(number(RECORDS))]
    for seed, data in enumerate(records):
        path = write(tmp_path / "one", 1, [scalar("sound", 0, 1.0), data, scalar("sound", 1, 2.0)])
        found = list(read_events(path))
        sound = [one for one in found if isinstance(one, Scalar) and one.tag == "sound"]
        assert [one.value for one in sound] == [1.0, 2.0], seed
    shutil.rmtree(tmp_path / "one")
    # All of them in one file, into a workspace that can still be listed.
    write(tmp_path / "logs", 1, [*records, scalar("sound", -(2**63), 1.0), scalar("sound", 0, 2.0)])
    brought = workspace.import_tensorboard(tmp_path / "logs")
    assert brought.new == 1
    (run,) = workspace.runs()
    assert [value for _, _, value in run.metric_points("sound")][-1] == 2.0
    json.dumps([run.config, run.environment], allow_nan=False)
    assert workspace.import_tensorboard(tmp_path / "logs").points == 0


def test_a_mutated_file_is_damaged_and_no_more(
    tmp_path: Path, number: Callable[[tuple[int, int]], int]
) -> None:
    whole = write(tmp_path, 1, [scalar("m", step, float(step)) for step in range(4)]).read_bytes()
    path = tmp_path / "events.tfevents"
    damaged = 0
    written = [Start(NOW), *(Scalar("m", step, NOW, float(step)) for step in range(4))]
    for seed in range(number(FILES)):
        path.write_bytes(mutated(whole, Random(seed)))
        found = []
        with contextlib.suppress(Damaged):
            damaged += 1
            found.extend(read_events(path))
            damaged -= 1
        assert all(one in written for one in found), seed  # what is read before the damage was written
    assert damaged > number(FILES) // 2


#: Contents that no file of a store should have.
TEXTS = [
    b"", b"\0", b"\xff\xfe", b"a: &a [*a]", b"- " * 3000, b"[" * 5000, b"{" * 5000, b"- - - -",
    b"1700000000000 nan 1e400", b"1 2 3 4 5 6\n" * 3, b"x" * 100_000, b"run_id: [1]\n", b"status: {}\n",
    b"!!python/name:os.system", b"9" * 5000, b"? [a]\n: b\n", b"a: 2001-13-45\n", b"0x" + b"f" * 400,
    b"start_time: 1e309\nend_time: .inf\nrun_id: " + OTHER.encode(), b"1:1:1:1\n",
    b"lifecycle_stage: [active]\nrun_id: " + OTHER.encode(),
]  # fmt: skip

#: Where links lead.
TARGETS = ["/etc/passwd", "/proc/self/mem", "/dev/zero", "..", ".", "meta.yaml", "/nowhere"]


def spoil(store: Path, random: Random) -> None:
    """Change one to three things about the second run, or about its experiment's folder."""
    for _ in range(random.randint(1, 3)):
        run = store / "1" / OTHER
        files = sorted(path for path in run.rglob("*") if path.is_file() and not path.is_symlink())
        if not files:
            return
        path = random.choice(files)
        match random.randrange(9):
            case 0 | 1 | 2:
                path.write_bytes(mutated(path.read_bytes(), random))
            case 3 | 4:
                path.write_bytes(random.choice(TEXTS))
            case 5:
                path.unlink()
                path.symlink_to(random.choice(TARGETS))
            case 6:
                path.unlink()
                path.mkdir()
            case 7:
                name = os.fsencode(path.parent) + b"/" + bytes(random.choices(range(128, 256), k=3))
                Path(os.fsdecode(name)).write_bytes(random.choice(TEXTS))
            case _:
                path.unlink()
                os.mkfifo(path)


def test_a_spoilt_run_of_a_store_costs_at_most_itself(
    tmp_path: Path, workspace: wb.Workspace, number: Callable[[tuple[int, int]], int]
) -> None:
    store = tmp_path / "mlruns"
    add_run(store, GOOD)
    (store / "1" / OTHER).mkdir()
    changed = left_out = 0
    for seed in range(number(STORES)):
        shutil.rmtree(store / "1" / OTHER)
        add_run(store)
        spoil(store, Random(seed))
        report = Report()
        read = {run.origin: (run, dict(run.metrics())) for run in runs_in_folder(store, report)}
        good, curves = read[f"mlflow:{GOOD}"]
        assert (good.config, good.tags, good.status) == ({"lr": 0.1}, {"team": "search"}, "succeeded"), seed
        assert list(curves["loss"].values) == [0.5, 0.25]
        assert read.keys() <= {f"mlflow:{GOOD}", f"mlflow:{OTHER}"}
        assert "root:" not in repr(read)
        times = [at for _, some in read.values() for one in some.values() for at in one.times]
        assert all(map(math.isfinite, times))
        left_out += bool(report.left_out)
        if seed % 20 == 0:
            changed += workspace.import_mlflow(str(store)).new
            assert all(run.summary is not None for run in workspace.runs())
    assert changed <= 2
    assert left_out > number(STORES) // 2


def test_a_record_is_framed_as_tensorboard_frames_it(tmp_path: Path) -> None:
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(tmp_path))
    event = scalar("m", 1, 0.5)
    writer.add_event(event)
    writer.close()
    (path,) = tmp_path.iterdir()
    assert path.read_bytes().endswith(framed(event.SerializeToString()))
