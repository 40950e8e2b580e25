"""Which stored run a TensorBoard folder continues: a table of folders before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from workbench.runs.imports.folders import Found, identities
from workbench.runs.imports.report import Report

#: A folder by name, with its event files by letter.
Folders = dict[str, str]


class Disk:
    """Folders of event files, imported again and again; the rows are what the store would hold."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rows: dict[str, tuple[str, str, Any]] = {}
        self.report = Report()

    def bring(self, folders: Folders, below: str = "") -> dict[str, str]:
        """Write the folders, import them, and return the origin of each; other folders are gone."""
        for path in self.root.rglob("*"):
            if path.is_file():
                path.unlink()
        found = []
        for name, files in folders.items():
            place = self.root / below / name
            place.mkdir(parents=True, exist_ok=True)
            for file in files:
                (place / file).touch()
            found.append(Found(name, str(place), tuple(f"{file}@1.0" for file in files)))
        origins = {}
        for one, identity in zip(
            found, identities(found, list(self.rows.values()), self.report), strict=True
        ):
            about = {"tensorboard": {"folder": one.folder, "files": list(identity.files)}}
            self.rows[identity.origin] = (identity.origin, one.name, about)
            origins[one.name] = identity.origin
        assert len(set(origins.values())) == len(origins)
        return origins


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


CONTINUED: list[tuple[str, Folders, Folders, dict[str, str | None]]] = [
    ("it grew", {"a": "x"}, {"a": "xy"}, {"a": "a"}),
    ("nothing happened", {"a": "x", "b": "y"}, {"a": "x", "b": "y"}, {"a": "a", "b": "b"}),
    ("it was renamed", {"a": "x"}, {"b": "xy"}, {"b": "a"}),
    ("copied and trained on", {"a": "x"}, {"a": "xy", "b": "xz"}, {"a": "a", "b": None}),
    ("the copy sorts first", {"m": "x"}, {"a": "xz", "m": "xy"}, {"m": "m", "a": None}),
    ("only the copy grew", {"a": "x"}, {"a": "x", "b": "xz"}, {"a": "a", "b": None}),
    ("a plain copy", {"a": "x"}, {"a": "x", "b": "x"}, {"a": "a", "b": None}),
    ("both went on", {"a": "xy", "b": "xz"}, {"a": "xyv", "b": "xzw"}, {"a": "a", "b": "b"}),
    ("names were swapped", {"a": "xy", "b": "xz"}, {"b": "xy", "a": "xz"}, {"b": "a", "a": "b"}),
    ("renamed, and its name taken", {"a": "x"}, {"old": "x", "a": "q"}, {"old": "a", "a": None}),
    ("the original is gone", {"a": "xy", "b": "xz"}, {"c": "xzw"}, {"c": "b"}),
    ("a copy of a copy", {"a": "x", "b": "xy"}, {"a": "x", "b": "xy", "c": "xyz"}, {"c": None, "b": "b"}),
    ("an older copy of it alone", {"a": "xy"}, {"a": "x"}, {"a": "a"}),
    ("an older copy beside it", {"a": "xy"}, {"a": "xy", "old": "x"}, {"a": "a", "old": None}),
    ("trained from an older state", {"a": "xy"}, {"a": "xz"}, {"a": None}),
    ("new beside it", {"a": "x"}, {"a": "x", "b": "y"}, {"a": "a", "b": None}),
]


@pytest.mark.parametrize(
    ("before", "after", "runs"), [case[1:] for case in CONTINUED], ids=[c[0] for c in CONTINUED]
)
def test_a_folder_continues_the_run_that_it_was(
    disk: Disk, before: Folders, after: Folders, runs: dict[str, str | None]
) -> None:
    first = disk.bring(before)
    second = disk.bring(after)
    for name, was in runs.items():
        if was is None:
            assert second[name] not in first.values()
        else:
            assert second[name] == first[was]
    assert disk.report.notes == ()
    assert disk.bring(after) == second  # and again


def test_a_tree_that_was_moved_is_the_same_runs(disk: Disk) -> None:
    first = disk.bring({"a": "x", "b": "xz"}, "here")
    assert disk.bring({"a": "xy", "b": "xzw"}, "there") == first


def test_folders_that_may_each_be_the_run_are_new_and_said(disk: Disk) -> None:
    first = disk.bring({"a": "x"})
    second = disk.bring({"b": "xy", "c": "xz"})
    assert not set(first.values()) & set(second.values())
    assert disk.report.notes == (
        "run a: each of the folders b, c may be its continuation, so they are imported as new runs",
    )


def test_a_copy_elsewhere_is_new_while_the_original_is_there(disk: Disk) -> None:
    disk.bring({"a": "x"})
    origins = identities(
        [Found("b", "/elsewhere/b", ("x@1.0", "z@1.0"))], list(disk.rows.values()), disk.report
    )
    assert origins[0].origin not in disk.rows


def test_runs_of_an_earlier_version_are_recognised(disk: Disk) -> None:
    (disk.root / "b").mkdir()
    (disk.root / "b" / "x").touch()
    row = ("tensorboard:x@1.0", "b", {"tensorboard": {"folder": str(disk.root / "b")}})
    found = [
        Found(name, str(disk.root / name), files)
        for name, files in (("a", ("x@1.0", "y@2.0")), ("b", ("x@1.0", "z@2.0")))
    ]
    other, same = identities(found, [row], disk.report)
    assert (same.origin, same.mixed) == ("tensorboard:x@1.0", "x@1.0")
    assert (other.origin, other.mixed) == ("tensorboard:y@2.0", "")


@pytest.mark.parametrize(
    "environment", [None, [], {"tensorboard": 1}, {"tensorboard": {"files": "x", "folder": 3}}]
)
def test_a_damaged_row_is_a_run_of_its_first_file(disk: Disk, environment: Any) -> None:
    (one,) = identities(
        [Found("a", "/a", ("x@1.0",))], [("tensorboard:x@1.0", "a", environment)], disk.report
    )
    assert one.origin == "tensorboard:x@1.0"
