"""Runs from event files that PyTorch's writer and TensorBoard's library wrote."""

import json
import math
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import workbench as wb
from tests.workbench.runs.imports.event_files import NOW, losses, restart, scalar, settings
from tests.workbench.runs.imports.event_files import write as write_file
from workbench import cli
from workbench.runs.imports import ForeignRun, bring, events, tensorboard
from workbench.runs.imports.report import Report
from workbench.store.points import Batch

#: Write with PyTorch's own writer; it is loaded elsewhere, since it warns and we count that as errors.
_WRITE = """
import sys, warnings
warnings.simplefilter("ignore")
import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

home, how = sys.argv[1:]
if how == "write":
    with SummaryWriter(f"{home}/첫째") as writer:
        for step in range(2000):
            writer.add_scalar("train/loss", 1 / (step + 1), step, walltime=1_700_000_000 + step / 8)
        for step in (0, 1, 2, 1, 3):
            writer.add_scalar("val/acc", step / 8, step, walltime=1_700_000_100 + step, new_style=True)
        writer.add_scalar("double", 0.1, 2**40, new_style=True, double_precision=True)
        for step, value in enumerate((float("nan"), float("inf"), float("-inf"))):
            writer.add_scalar("odd", value, step)
        writer.add_image("picture", np.zeros((3, 4, 4), np.uint8), 0)
        writer.add_histogram("weights", np.arange(9.0), 0)
        writer.add_text("words", "hello", 0)
        settings = {"lr": 0.001, "layers": 3, "on": True, "name": "강"}
        writer.add_hparams(settings, {"final/acc": 0.5}, run_name="session")
    with SummaryWriter(f"{home}/nested/second") as writer:
        writer.add_scalar("m", 1.0, 0)
else:
    with SummaryWriter(f"{home}/nested/second") as writer:
        writer.add_scalar("m", 2.0, 1)
        writer.add_scalar("new", 3.0, 1)
"""


def write(home: Path, how: str) -> None:
    subprocess.run([sys.executable, "-c", _WRITE, str(home), how], check=True, capture_output=True)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("boards") / "logs"
    write(home, "write")
    return home


@pytest.fixture
def logs(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "logs"))


def test_scalars_come_with_steps_times_and_settings(logs: Path, workspace: wb.Workspace) -> None:
    seen: list[tuple[int, int, int]] = []
    brought = workspace.import_tensorboard(logs, on_progress=lambda *progress: seen.append(progress))
    assert (brought.new, brought.points) == (2, 2000 + 5 + 1 + 3 + 1 + 1)
    assert seen[-1] == (2, 2, brought.points)
    assert brought.passed_over == {"images": 1, "histograms": 1, "text": 1}
    runs = {run.name: run for run in workspace.runs("logs")}
    assert set(runs) == {"첫째", "nested/second"}
    first = runs["첫째"]
    assert first.config == {"lr": 0.001, "layers": 3, "on": True, "name": "강"}
    assert first.status == "succeeded"
    assert first.finished_at is not None
    loss = first.metric_points("train/loss")
    assert [step for step, _, _ in loss] == list(range(2000))
    assert loss[8][1:] == (1_700_000_001.0, struct.unpack("f", struct.pack("f", 1 / 9))[0])
    assert [(step, value) for step, _, value in first.metric_points("val/acc")] == [
        (0, 0.0),
        (1, 0.125),
        (2, 0.25),
        (1, 0.125),
        (3, 0.375),
    ]
    assert [(step, value) for step, _, value in first.metric_points("double")] == [(2**40, 0.1)]
    assert [repr(value) for _, _, value in first.metric_points("odd")] == ["nan", "inf", "-inf"]
    assert [value for _, _, value in first.metric_points("final/acc")] == [0.5]


def test_again_it_is_the_same_runs_that_have_grown_wherever_they_are(
    logs: Path, workspace: wb.Workspace, tmp_path: Path
) -> None:
    before = workspace.import_tensorboard(logs, "boards")
    again = workspace.import_tensorboard(logs, "boards")
    assert (again.new, again.changed, again.unchanged, again.points) == (0, 0, 2, 0)
    write(logs, "grow")
    moved = Path(shutil.move(logs, tmp_path / "elsewhere"))
    more = workspace.import_tensorboard(moved, "boards")
    assert (more.new, more.points, more.run_ids) == (0, 2, before.run_ids)
    second = next(run for run in workspace.runs() if run.name == "nested/second")
    assert [(step, value) for step, _, value in second.metric_points("m")] == [(0, 1.0), (1, 2.0)]
    assert second.outcome["points"] == 3


def test_several_sessions_below_a_run_are_runs_of_their_own(tmp_path: Path, workspace: wb.Workspace) -> None:
    for name in ("a", "b"):
        record(tmp_path / "logs" / "run" / name, {"x": 1.0}, settings={"lr": {"a": 1, "b": 2}[name]})
    record(tmp_path / "logs" / "run", {"m": 1.0})
    workspace.import_tensorboard(tmp_path / "logs")
    runs = {run.name: run.config for run in workspace.runs()}
    assert runs == {"run": {}, "run/a": {"lr": 1}, "run/b": {"lr": 2}}


@pytest.mark.parametrize(("code", "status"), [(1, "succeeded"), (2, "failed"), (3, "running")])
def test_a_status_that_was_recorded_counts(
    tmp_path: Path, workspace: wb.Workspace, code: int, status: str
) -> None:
    record(tmp_path / "logs", {"m": 1.0}, settings={"lr": 1}, status=code)
    workspace.import_tensorboard(tmp_path / "logs")
    (run,) = workspace.runs()
    assert (run.name, run.status) == ("logs", status)
    assert (run.finished_at is None) == (status == "running")


def record(
    folder: Path, scalars: dict[str, float], *, settings: dict[str, Any] | None = None, status: int = 0
) -> Path:
    """Write an event file with TensorBoard's library."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    def note(tag: str, data: Any) -> Event:
        plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=data.SerializeToString())
        value = Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin))
        return Event(wall_time=5.0, summary=Summary(value=[value]))

    writer = EventFileWriter(str(folder))
    if settings is not None:
        begin = HParamsPluginData()
        for name, value in settings.items():
            begin.session_start_info.hparams[name].number_value = value
        writer.add_event(note("_hparams_/session_start_info", begin))
    for step, (tag, value) in enumerate(scalars.items()):
        one = Summary.Value(tag=tag, simple_value=value)
        writer.add_event(Event(wall_time=2.0 + step, step=step, summary=Summary(value=[one])))
    if status:
        end = HParamsPluginData()
        end.session_end_info.status = status
        end.session_end_info.end_time_secs = 9.0
        writer.add_event(note("_hparams_/session_end_info", end))
    writer.close()
    (path,) = folder.glob("*tfevents*")
    return path


@pytest.mark.parametrize(
    ("kind", "values", "found"),
    [
        ("float32", [0.5], 0.5),
        ("float64", [0.1], 0.1),
        ("int32", [-3], -3.0),
        ("int64", [-(2**40)], -float(2**40)),
        ("uint8", [200], 200.0),
        ("int8", [-2], -2.0),
        ("bool", [True], 1.0),
        ("float16", [0.25], 0.25),
        ("float32", [1.0, 2.0], None),
        ("S3", [b"abc"], None),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_tensor_of_one_number_is_that_number(
    kind: str, values: list[Any], found: float | None, packed: bool
) -> None:
    import numpy as np
    from tensorboard.util.tensor_util import make_tensor_proto

    array = np.array(values, kind)
    tensor = make_tensor_proto(array if len(values) > 1 else array[0])
    if packed and kind != "S3":
        for part in ("float_val", "double_val", "int_val", "int64_val", "bool_val", "half_val"):
            tensor.ClearField(part)
        tensor.tensor_content = array.tobytes()
    assert events._tensor(events._Message(tensor.SerializeToString())) == found


def test_a_file_that_is_still_being_written_is_read_as_far_as_it_is_whole(
    tmp_path: Path, workspace: wb.Workspace
) -> None:
    path = record(tmp_path / "logs", {"a": 1.0, "b": 2.0})
    whole = path.read_bytes()
    for cut in (1, 5, 20):
        path.write_bytes(whole[:-cut])
        brought = workspace.import_tensorboard(tmp_path / "logs")
        assert brought.passed_over == {}
        (run,) = workspace.runs()
        assert set(run.summary) == {"a"}
    path.write_bytes(whole)
    assert workspace.import_tensorboard(tmp_path / "logs").points == 1
    assert set(run.summary) == {"a", "b"}


def test_a_damaged_record_is_said_and_what_is_before_it_is_kept(
    tmp_path: Path, workspace: wb.Workspace
) -> None:
    path = record(tmp_path / "logs", {"a": 1.0, "b": 2.0})
    data = bytearray(path.read_bytes())
    data[-8] ^= 1
    path.write_bytes(data)
    brought = workspace.import_tensorboard(tmp_path / "logs")
    (words,) = brought.passed_over
    assert "damaged" in words
    assert path.name in words
    (run,) = workspace.runs()
    assert set(run.summary) == {"a"}


def test_nonsense_is_never_more_than_damage(tmp_path: Path) -> None:
    path = record(tmp_path / "logs", {"a": 1.0, "b": math.nan}, settings={"lr": 1}, status=1)
    whole = path.read_bytes()
    for at in range(len(whole)):
        data = bytearray(whole)
        data[at] ^= 0x55
        path.write_bytes(data)
        with pytest.raises(events.Damaged):  # every byte is covered by a checksum, or part of one
            list(events.read_events(path))


@pytest.mark.parametrize("empty", [True, False])
def test_a_folder_without_events_is_refused(tmp_path: Path, workspace: wb.Workspace, empty: bool) -> None:
    folder = tmp_path if empty else tmp_path / "missing"
    (tmp_path / "sub").mkdir()
    with pytest.raises(wb.BadInput, match=r"no (event files|folder)"):
        workspace.import_tensorboard(folder / "sub" if empty else folder)
    assert workspace.runs() == []


def test_the_command_line_imports_and_says_what_came(
    logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--workspace", str(tmp_path / "home"), "import", "tensorboard", str(logs)]
    assert cli.run([*command, "--experiment", "boards", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["new"] == 2
    assert cli.run(command) == 0
    printed = capsys.readouterr().out
    assert "0 new, 0 continued, 2 unchanged" in printed
    assert "images (1)" in printed


# What TensorBoard shows --------------------------------------------------------------------------


def curves(home: wb.Workspace, name: str = "loss") -> dict[str, list[float]]:
    return {run.name: [value for _, _, value in run.metric_points(name)] for run in home.runs()}


def fork(logs: Path) -> None:
    """Copy a run's folder, and go on with both."""
    shutil.copytree(logs / "base", logs / "branch")
    write_file(logs / "branch", 2, losses(2, [5, 6]))
    write_file(logs / "base", 3, losses(2, [3, 4]))


@pytest.mark.parametrize("first", [False, True])
def test_a_copy_that_was_trained_on_is_a_run_of_its_own(
    tmp_path: Path, workspace: wb.Workspace, first: bool
) -> None:
    logs = tmp_path / "logs"
    write_file(logs / "base", 1, losses(0, [1, 2]))
    if first:
        workspace.import_tensorboard(logs)
    fork(logs)
    brought = workspace.import_tensorboard(logs)
    assert (brought.new, brought.changed) == ((1, 1) if first else (2, 0))
    expected = {"base": [1.0, 2.0, 3.0, 4.0], "branch": [1.0, 2.0, 5.0, 6.0]}
    assert curves(workspace) == expected
    ids = {run.name: run.id for run in workspace.runs()}
    # Moved as a whole, both went on.
    write_file(logs / "branch", 4, losses(4, [7]))
    moved = logs.rename(tmp_path / "moved")
    again = workspace.import_tensorboard(moved)
    assert (again.new, again.points) == (0, 1)
    assert curves(workspace) == {**expected, "branch": [1.0, 2.0, 5.0, 6.0, 7.0]}
    # One renamed.
    (moved / "branch").rename(moved / "better")
    assert workspace.import_tensorboard(moved).new == 0
    assert {run.name: run.id for run in workspace.runs()} == {"base": ids["base"], "better": ids["branch"]}


def test_two_runs_that_an_earlier_version_made_one_are_parted(
    tmp_path: Path, workspace: wb.Workspace
) -> None:
    logs = tmp_path / "logs"
    write_file(logs / "base", 1, losses(0, [1, 2]))
    fork(logs)
    # As version 0.2.0 stored them: both folders in the run of their first file.
    mixed = ForeignRun(
        origin=f"tensorboard:events.out.tfevents.1.host.1.0@{NOW!r}",
        experiment="logs",
        name="branch",
        status="succeeded",
        created_at=NOW,
        finished_at=NOW,
        metrics=lambda: [("loss", Batch([0, 1, 2, 3, 2, 3], [NOW, NOW + 1] * 3, [1, 2, 3, 4, 5, 6]))],
        environment={"tensorboard": {"folder": str(logs / "branch")}},
    )
    bring(workspace.store, [mixed], Report())
    brought = workspace.import_tensorboard(logs)
    assert (brought.new, brought.changed) == (1, 1)
    assert curves(workspace) == {"base": [1.0, 2.0, 3.0, 4.0], "branch": [1.0, 2.0, 5.0, 6.0]}
    assert workspace.import_tensorboard(logs).unchanged == 2


@pytest.mark.parametrize("first", [False, True])
def test_what_a_restart_discarded_is_not_there(tmp_path: Path, workspace: wb.Workspace, first: bool) -> None:
    logs = tmp_path / "logs"
    write_file(logs, 1, [*losses(0, range(10)), scalar("lr", 3, 0.5), scalar("lr", 7, 0.25)])
    if first:
        assert workspace.import_tensorboard(logs).points == 12
    write_file(logs, 2, [restart(5), *losses(5, [15, 16])])
    brought = workspace.import_tensorboard(logs)
    assert brought.passed_over == {"points that a restart of the training discarded": 6}
    (run,) = workspace.runs()
    assert [value for _, _, value in run.metric_points("loss")] == [0, 1, 2, 3, 4, 15, 16]
    assert [step for step, _, _ in run.metric_points("lr")] == [3]
    assert run.summary["loss"]["max"] == 16
    again = workspace.import_tensorboard(logs)
    assert (again.unchanged, again.points) == (1, 0)


def test_the_first_session_of_a_file_discards_nothing_of_its_own(
    tmp_path: Path, workspace: wb.Workspace
) -> None:
    # TensorFlow's supervisor may write numbers before it says that the session began.
    write_file(tmp_path / "logs", 1, [*losses(0, [1, 2]), restart(0), *losses(2, [3, 4]), restart(3)])
    workspace.import_tensorboard(tmp_path / "logs")
    assert curves(workspace) == {"logs": [1.0, 2.0, 3.0]}


def test_the_same_points_are_brought_as_tensorboard_reads(tmp_path: Path, workspace: wb.Workspace) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "logs"
    write_file(folder, 1, losses(0, range(6)))
    write_file(folder, 2, [restart(4), *losses(4, [10, 11, 12])])
    write_file(folder, 3, [restart(5), *losses(5, [20, 21])])
    board = EventAccumulator(str(folder)).Reload()
    workspace.import_tensorboard(folder)
    assert curves(workspace) == {"logs": [point.value for point in board.Scalars("loss")]}


def test_links_are_followed_as_tensorboard_does_and_each_folder_once(
    tmp_path: Path, workspace: wb.Workspace
) -> None:
    logs, elsewhere = tmp_path / "logs", tmp_path / "elsewhere"
    write_file(logs / "m" / "own", 1, losses(0, [1]))
    write_file(elsewhere / "b", 2, losses(0, [2]))
    write_file(elsewhere / "a", 3, losses(0, [3]))
    (elsewhere / "a" / "back").symlink_to(logs)
    (logs / "linked").symlink_to(elsewhere)
    (logs / "again").symlink_to(logs / "m" / "own")
    (logs / "m" / "loop").symlink_to(logs)
    (logs / "dangling.tfevents").symlink_to("nowhere")
    (logs / "self").symlink_to("self")
    brought = workspace.import_tensorboard(logs)
    assert curves(workspace) == {"m/own": [1.0], "linked/a": [3.0], "linked/b": [2.0]}
    assert set(brought.passed_over) == {
        "dangling.tfevents, which is not a file",
        *(
            f"{name}, a link to a folder that was read already"
            for name in ("again", "m/loop", "linked/a/back")
        ),
    }
    assert brought.notes == tuple(
        f"linked/{name} is elsewhere: a link to {elsewhere / name} was followed" for name in ("a", "b")
    )


def test_a_link_to_a_whole_disk_ends(
    tmp_path: Path, workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorboard, "MOST_FOLDERS", 3)
    write_file(tmp_path / "logs", 1, losses(0, [1]))
    (tmp_path / "logs" / "x").symlink_to("/usr")
    brought = workspace.import_tensorboard(tmp_path / "logs")
    assert brought.passed_over == {"folders beyond the first 3": 1}
    assert brought.new == 1


def test_a_folder_that_is_not_utf8_is_escaped(tmp_path: Path, workspace: wb.Workspace) -> None:
    logs = tmp_path / "caf\udce9"
    write_file(logs / "\udce9", 1, losses(0, [1]))
    for _ in range(2):
        workspace.import_tensorboard(logs)
    (run,) = workspace.runs()
    assert (run.experiment, run.name) == ("caf\\udce9", "\\udce9")


@pytest.mark.parametrize("unit", [1e3, 1e6, 1e9])
def test_times_in_a_finer_unit_are_converted_and_the_runs_are_listed(
    tmp_path: Path, workspace: wb.Workspace, unit: float, capsys: pytest.CaptureFixture[str]
) -> None:
    write_file(tmp_path / "logs", 1, losses(0, [1, 2], NOW * unit), NOW * unit)
    brought = workspace.import_tensorboard(tmp_path / "logs")
    assert "3 times were in a finer unit than seconds" in brought.notes[0]
    (run,) = workspace.runs()
    assert run.created_at is not None
    assert run.created_at.year == 2023
    assert [at for _, at, _ in run.metric_points("loss")] == pytest.approx([NOW, NOW], abs=2)
    assert cli.run(["--workspace", str(workspace.path), "runs", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)["runs"]
    assert listed["created_at"].startswith("2023-11-14")


@pytest.mark.parametrize("at", [math.nan, math.inf, -math.inf, -5.0, 1e300])
@pytest.mark.parametrize("stamp", [1, 1_600_000_000])
def test_times_that_are_none_cost_no_point(
    tmp_path: Path, workspace: wb.Workspace, at: float, stamp: int, capsys: pytest.CaptureFixture[str]
) -> None:
    points = [scalar("loss", 0, 1.0, at), scalar("loss", 1, 2.0, NOW), scalar("loss", 2, 3.0, at)]
    write_file(tmp_path / "logs", stamp, points, at)
    brought = workspace.import_tensorboard(tmp_path / "logs")
    (run,) = workspace.runs()
    named = 0.0 if stamp == 1 else float(stamp)  # the time in the file's name
    assert run.metric_points("loss") == [(0, named, 1.0), (1, NOW, 2.0), (2, NOW, 3.0)]
    assert (run.created_at is None, run.seconds is None) == (stamp == 1, stamp == 1)
    assert "3 times are invalid" in brought.notes[0]
    write_file(tmp_path / "logs", stamp, [*points, scalar("loss", 3, 4.0, NOW)], at)
    assert workspace.import_tensorboard(tmp_path / "logs").points == 1
    assert cli.run(["--workspace", str(workspace.path), "runs", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)["runs"]
    assert (listed["created_at"] is None) == (stamp == 1)


def test_a_record_that_holds_no_event_costs_only_itself(tmp_path: Path, workspace: wb.Workspace) -> None:
    deep: Any = 1.0
    for _ in range(50):
        deep = [deep]
    bad = [b"\xff" * 20, settings(deep=deep), b"\x09\x00", b"\x2a\x02\x08\x01"]
    path = write_file(tmp_path / "logs", 1, [scalar("loss", 0, 1.0), *bad, scalar("loss", 1, 2.0)])
    brought = workspace.import_tensorboard(tmp_path / "logs")
    assert curves(workspace) == {"logs": [1.0, 2.0]}
    named = list(brought.passed_over)
    assert [one.partition(": ")[0] for one in named] == [f"{path}, record {number}" for number in range(2, 6)]
    assert "nested more than 32 levels" in named[1]


def test_settings_of_every_kind_become_the_config(tmp_path: Path, workspace: wb.Workspace) -> None:
    values = {"lr": 0.1, "n": 3, "on": True, "name": "강", "list": [1, "a"], "deep": {"a": [True]}}
    write_file(tmp_path / "logs", 1, [settings(**values, odd=math.nan, big=math.inf), scalar("loss", 0, 1.0)])
    workspace.import_tensorboard(tmp_path / "logs")
    (run,) = workspace.runs()
    assert run.config == {**values, "odd": "nan", "big": "inf"}


def test_numbers_beside_a_large_picture_are_read(tmp_path: Path, workspace: wb.Workspace) -> None:
    both = scalar("loss", 0, 1.0)
    both.summary.value.add(tag="picture").image.encoded_image_string = b"x" * (2**20 + 1)
    write_file(tmp_path / "logs", 1, [both, b"x" * (events.LONGEST + 1), scalar("loss", 1, 2.0)])
    brought = workspace.import_tensorboard(tmp_path / "logs")
    assert curves(workspace) == {"logs": [1.0, 2.0]}
    assert brought.passed_over == {"images": 1, "records over 32 MiB": 1}


def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(tmp_path / "logs" / "a", 1, losses(0, [1]))
    write_file(tmp_path / "logs" / "b", 2, losses(0, [2]))
    real = Path.open

    def refuse(self: Path, *args: Any, **more: Any) -> Any:
        if self.parent.name == "b":
            raise PermissionError(13, "Permission denied")
        return real(self, *args, **more)

    monkeypatch.setattr(Path, "open", refuse)  # root may read every file
    brought = workspace.import_tensorboard(tmp_path / "logs")
    assert curves(workspace) == {"a": [1.0]}
    assert "b/events.out.tfevents.2.host.1.0: Permission denied" in brought.passed_over
