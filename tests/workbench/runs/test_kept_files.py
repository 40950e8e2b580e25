"""Files of a run: listing, keeping the best, and untrusted names."""

import math
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import workbench as wb
from workbench.host import files
from workbench.runs.files import KeptFiles


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "made"
    path.write_bytes(b"weights")
    return path


@pytest.fixture
def run(workspace: wb.Workspace, source: Path) -> wb.Run:
    """A run with one checkpoint, ``a.bin``; all other files must still exist at the end."""
    run = workspace.start_run("e", better={"val/*": "higher", "loss": "lower"})
    run.log_checkpoint("a.bin", source, step=1)
    return run


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[dict[Path, bytes]]:
    """Files outside the run, which must not be deleted."""
    kept = {}
    for name in ("outside/secret.bin", "outside/a.bin", "outside/checkpoints/a.bin"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
        kept[path] = name.encode()
    yield kept
    assert {path: path.read_bytes() for path in kept} == kept


def test_checkpoints_say_their_size_step_and_metrics(
    workspace: wb.Workspace, run: wb.Run, source: Path
) -> None:
    run.log({"val/acc": 0.5, "loss": 2.0}, step=1)
    run.log({"val/acc": 0.75}, step=2)
    run.log_checkpoint("b.bin", source)
    first, second = run.checkpoints()
    assert (first.name, first.size, first.step) == ("a.bin", 7, 1)
    assert first.metrics == {"val/acc": 0.5, "loss": 2.0}
    assert (second.step, second.metrics) == (2, {"val/acc": 0.75})
    with run.checkpoint("b.bin").open() as stream:
        assert stream.read() == b"weights"
    run.finish()
    kept = workspace.run(run.id).outcome["checkpoints"]
    assert [(one["name"], one["step"], one["metrics"]) for one in kept] == [
        ("a.bin", 1, {"val/acc": 0.5, "loss": 2.0}),
        ("b.bin", 2, {"val/acc": 0.75}),
    ]


@pytest.mark.parametrize(
    ("metric", "values", "kept"),
    [
        ("val/acc", [0.1, 0.3, 0.2, 0.5], {1, 3}),
        ("loss", [0.1, 0.3, 0.2, 0.05], {0, 3}),
        ("val/acc", [0.5, 0.5, 0.5], {0, 1}),
        ("val/acc", [math.nan, 0.1, math.nan, 0.2, 0.3], {3, 4}),
        ("val/acc", [math.nan, math.nan, math.nan], {0, 1}),
        ("val/acc", [0.1, math.inf, 0.3], {1, 2}),
    ],
)
def test_the_best_are_kept_and_the_others_go(
    run: wb.Run, source: Path, metric: str, values: list[float], kept: set[int]
) -> None:
    for step, value in enumerate(values):
        run.log({metric: value}, step=step)
        path = run.log_checkpoint(f"e{step}.bin", source, keep_best=2, metric=metric)
        assert (path is not None) == (f"e{step}.bin" in {one.name for one in run.checkpoints()})
    names = {one.name for one in run.checkpoints()}
    assert names == {"a.bin"} | {f"e{step}.bin" for step in kept}  # unranked checkpoints are kept
    assert {path.name for path in run.checkpoint_dir.iterdir()} == names


def test_metrics_compete_apart_and_a_name_may_be_used_again(run: wb.Run, source: Path) -> None:
    for step, (acc, loss) in enumerate([(0.1, 5.0), (0.2, 6.0), (0.3, 7.0)]):
        run.log({"val/acc": acc, "loss": loss}, step=step)
        run.log_checkpoint("best.bin", source, keep_best=1, metric="val/acc")
        run.log_checkpoint("least.bin", source, keep_best=1, metric="loss")
    assert {one.name: one.step for one in run.checkpoints()} == {"a.bin": 1, "best.bin": 2, "least.bin": 2}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"keep_best": 1}, "keep_best and metric"),
        ({"metric": "val/acc"}, "keep_best and metric"),
        ({"keep_best": 0, "metric": "val/acc"}, "keep_best must be .* at least 1, got 0"),
        ({"keep_best": True, "metric": "val/acc"}, "keep_best must be .* at least 1, got True"),
        ({"keep_best": 1, "metric": "val/other"}, "has no 'val/other' at step 3"),
        ({"keep_best": 1, "metric": "speed"}, "no direction is declared"),
    ],
)
def test_what_cannot_be_ranked_is_said_and_nothing_kept(
    run: wb.Run, source: Path, arguments: dict[str, Any], says: str
) -> None:
    run.log({"val/acc": 1.0, "speed": 2.0}, step=3)
    with pytest.raises(wb.BadInput, match=says):
        run.log_checkpoint("b.bin", source, **arguments)
    assert [one.name for one in run.checkpoints()] == ["a.bin"]


def test_a_deleted_checkpoint_is_gone_from_disk_list_and_outcome(
    workspace: wb.Workspace, run: wb.Run, source: Path
) -> None:
    run.log_checkpoint("b.bin", source)
    run.finish()
    over = workspace.run(run.id)
    over.delete_checkpoint("a.bin")
    assert [one.name for one in over.checkpoints()] == ["b.bin"]
    assert [one["name"] for one in over.outcome["checkpoints"]] == ["b.bin"]
    assert [path.name for path in over.checkpoint_dir.iterdir()] == ["b.bin"]
    for ask in (over.delete_checkpoint, over.checkpoint):
        with pytest.raises(wb.UnknownCheckpoint, match=r"a\.bin.*b\.bin"):
            ask("a.bin")


NAMES = [
    "../../../outside/secret.bin",
    "..%2f..%2f..%2foutside%2fsecret.bin",
    "%2e%2e%2fsecret.bin",
    "%252e%252e%252fsecret.bin",
    "..\\..\\secret.bin",
    "a.bin/../a.bin",
    "./a.bin",
    "/etc/passwd",
    "{outside}",
    "..",
    ".",
    "",
    "a.bin\0",
    "a.bin\n",
    "~/secret.bin",
    "checkpoints/a.bin",
    "．．／a.bin",
    "a.bin ",
    ".deleted-00",
    "CON",
    "x" * 300,
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_no_plain_file_name_deletes_nothing(
    run: wb.Run, outside: dict[Path, bytes], name: str
) -> None:
    path = name.format(outside=next(iter(outside)))
    for ask in (run.delete_checkpoint, run.checkpoint, run.artifact):
        with pytest.raises(wb.BadName):
            ask(path)
    assert [one.name for one in run.checkpoints()] == ["a.bin"]


def link_file(folder: Path, outside: Path) -> None:
    (folder / "x.bin").symlink_to(outside / "secret.bin")


def link_folder(folder: Path, outside: Path) -> None:
    (folder / "x.bin").symlink_to(outside, target_is_directory=True)


def make_folder(folder: Path, outside: Path) -> None:
    (folder / "x.bin").mkdir()
    (folder / "x.bin" / "kept").write_text("x")


def make_pipe(folder: Path, outside: Path) -> None:
    os.mkfifo(folder / "x.bin")


def link_checkpoints(folder: Path, outside: Path) -> None:
    folder.rename(folder.with_name("away"))
    folder.symlink_to(outside, target_is_directory=True)
    (outside / "x.bin").write_text("x")


def link_run(folder: Path, outside: Path) -> None:
    folder.parent.rename(folder.parent.with_name("away"))
    folder.parent.symlink_to(outside, target_is_directory=True)
    (outside / "checkpoints" / "x.bin").write_text("x")


@pytest.mark.parametrize("by_folder", [True, False])
@pytest.mark.parametrize("put", [link_file, link_folder, make_folder, make_pipe, link_checkpoints, link_run])
def test_what_is_no_regular_file_in_a_real_folder_is_left_alone(
    run: wb.Run,
    outside: dict[Path, bytes],
    put: Callable[[Path, Path], None],
    by_folder: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(files, "_BY_FOLDER", by_folder)
    elsewhere = next(iter(outside)).parent
    put(run.checkpoint_dir, elsewhere)
    path = run.checkpoint_dir / "x.bin"
    with pytest.raises(wb.WrongState, match="not a regular file"):
        run.delete_checkpoint("x.bin")
    with pytest.raises(wb.WrongState, match="not a regular file"):
        files.open_file(run.folder.parent, str(run.id), "checkpoints", "x.bin")
    assert os.path.lexists(path)


def test_a_hard_link_loses_one_name_only(run: wb.Run, outside: dict[Path, bytes]) -> None:
    os.link(next(iter(outside)), run.checkpoint_dir / "x.bin")
    run.log_checkpoint("x.bin", run.checkpoint_dir / "x.bin")
    run.delete_checkpoint("x.bin")
    assert sorted(path.name for path in run.checkpoint_dir.iterdir()) == ["a.bin"]


def test_a_file_that_nobody_logged_is_no_checkpoint(run: wb.Run) -> None:
    stray = run.checkpoint_dir / "half-written.bin"
    stray.write_bytes(b"x")
    with pytest.raises(wb.UnknownCheckpoint, match="half-written"):
        run.delete_checkpoint(stray.name)
    assert stray.read_bytes() == b"x"


@pytest.mark.parametrize("what", ["link", "folder", "folder above"])
def test_what_is_swapped_between_check_and_deletion_is_not_deleted(
    run: wb.Run, outside: dict[Path, bytes], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere, folder = next(iter(outside)).parent, run.checkpoint_dir
    check = files._check_regular

    def swap(name: str, *rest: Any) -> None:
        check(name, *rest)
        if name != "a.bin":
            return
        if what == "folder above":
            folder.rename(folder.with_name("away"))
            folder.symlink_to(elsewhere, target_is_directory=True)
            return
        (folder / "a.bin").rename(folder / "b.bin")
        if what == "link":
            (folder / "a.bin").symlink_to(elsewhere / "secret.bin")
        else:
            (folder / "a.bin").mkdir()
            (folder / "a.bin" / "kept").write_text("x")

    monkeypatch.setattr(files, "_check_regular", swap)
    if what == "folder above":
        run.delete_checkpoint("a.bin")  # the file in the folder that was opened
        assert list(folder.with_name("away").iterdir()) == []
        return
    with pytest.raises(wb.WrongState, match="not a regular file"):
        run.delete_checkpoint("a.bin")
    assert os.path.lexists(folder / "a.bin")
    assert sorted(path.name for path in folder.iterdir()) == ["a.bin", "b.bin"]


def test_a_real_race_of_swaps_never_reaches_outside(
    workspace: wb.Workspace, run: wb.Run, outside: dict[Path, bytes], source: Path
) -> None:
    """Another thread keeps swapping the file and its folder for links to the outside."""
    elsewhere, folder = next(iter(outside)).parent, run.checkpoint_dir
    link, linked_folder = folder.parent / "link", folder.parent / "linked"
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for path, target in ((link, elsewhere / "secret.bin"), (linked_folder, elsewhere)):
                if not os.path.lexists(path):
                    path.symlink_to(target)
            for act in (
                lambda: link.replace(folder / "a.bin"),
                lambda: Path(shutil.copy(source, folder.parent / "new")).replace(folder / "a.bin"),
                lambda: (folder.rename(folder.with_name("away")), linked_folder.rename(folder)),
                lambda: (folder.rename(linked_folder), folder.with_name("away").rename(folder)),
            ):
                try:
                    act()
                except OSError:
                    continue

    thread = threading.Thread(target=swap)
    thread.start()
    deleted = refused = 0
    try:
        for _ in range(1500):
            try:
                files.delete_file(folder.parents[1], str(run.id), "checkpoints", "a.bin")
                deleted += 1
            except (wb.WrongState, OSError):
                refused += 1
    finally:
        stop.set()
        thread.join()
    assert deleted
    assert refused
    # and the fixture checks that everything outside still exists


def test_a_deletion_that_was_killed_half_way_is_finished_by_the_next(run: wb.Run, source: Path) -> None:
    (run.checkpoint_dir / ".deleted-0011").write_bytes(b"x")
    run.log_checkpoint("b.bin", source)
    run.delete_checkpoint("b.bin")
    assert [path.name for path in run.checkpoint_dir.iterdir()] == ["a.bin"]


def test_artifacts_are_kept_listed_and_opened(workspace: wb.Workspace, run: wb.Run, source: Path) -> None:
    run.log_artifact("표 1.csv", source)
    source.write_text("a longer one")
    kept = run.log_artifact("표 1.csv", source)
    (found,) = workspace.run(run.id).artifacts()
    assert (found.name, found.size, found.path) == ("표 1.csv", 12, kept)
    assert Path(found).read_text() == "a longer one"
    with run.artifact("표 1.csv").open() as stream:
        assert stream.read() == b"a longer one"
    with pytest.raises(wb.UnknownArtifact, match="표 1"):
        run.artifact("표 2.csv")
    with pytest.raises(wb.BadInput, match="no file"):
        run.log_artifact("x", source.parent)
    with pytest.raises(wb.BadName):
        run.log_artifact("../x", source)
    assert [one.name for one in run.checkpoints()] == ["a.bin"]


def test_a_file_that_is_deleted_at_once_was_kept_all_the_same(
    workspace: wb.Workspace, tmp_path: Path
) -> None:
    (tmp_path / "w.bin").write_bytes(b"weights")

    def put_and_lose(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes())
        target.unlink()  # another process deletes the checkpoint

    with workspace.start_run("e") as run:
        kept = KeptFiles(workspace.store, run.folder, put_and_lose)
        kept.keep_checkpoint("w.bin", tmp_path / "w.bin", 1)
        assert kept.checkpoints() == []
