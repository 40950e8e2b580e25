"""``workbench cache show`` and ``workbench cache clear``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import workbench as wb
from tests.workbench.conftest import job_row
from workbench import cli
from workbench.commands.cache import Part, parts_of


@pytest.fixture
def filled(workspace: wb.Workspace, tmp_path: Path) -> wb.Workspace:
    """A workspace whose cache holds a folder, a file and a link to a folder elsewhere."""
    folder = workspace.cache / "features" / "a"
    folder.mkdir(parents=True)
    (folder / "1").write_bytes(bytes(2_000_000))
    (folder.parent / "2").write_bytes(bytes(500_000))
    (workspace.cache / "drawings.npz").write_bytes(bytes(100_000))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine").write_text("keep")
    (workspace.cache / "link").symlink_to(tmp_path / "elsewhere")
    return workspace


def run(home: wb.Workspace, *words: str) -> int:
    return cli.run(["cache", *words, "--workspace", str(home.path)])


def test_the_parts_are_listed_with_their_sizes(
    filled: wb.Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    features, drawings, link = parts_of(filled.cache)
    assert (features, drawings) == (Part("features", 2, 2_500_000), Part("drawings.npz", 1, 100_000))
    assert link.name == "link"
    assert run(filled, "show") == 0
    shown = capsys.readouterr().out
    assert "2.5 MB" in shown
    assert f"2.6 MB in {filled.cache}" in shown
    assert run(filled, "show", "--json") == 0
    assert json.loads(capsys.readouterr().out)["parts"][0] == {
        "name": "features",
        "files": 2,
        "bytes": 2_500_000,
    }


def test_a_part_or_all_of_it_is_deleted_and_nothing_that_a_link_leads_to(
    filled: wb.Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(filled, "clear", "features") == 0
    assert "Deleted features: 2.5 MB." in capsys.readouterr().out
    assert [part.name for part in parts_of(filled.cache)] == ["drawings.npz", "link"]
    assert run(filled, "clear") == 0
    assert parts_of(filled.cache) == []
    assert (tmp_path / "elsewhere" / "mine").read_text() == "keep"
    capsys.readouterr()
    assert run(filled, "clear") == 0
    assert capsys.readouterr().out == "The cache is empty.\n"


@pytest.mark.parametrize("name", ["../runs", "nothing", "", "features/a"])
def test_only_parts_are_deleted(filled: wb.Workspace, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(filled, "clear", name) == 2
    assert "the cache has no part" in capsys.readouterr().err
    assert (filled.cache / "features" / "a" / "1").exists()


def test_nothing_is_deleted_below_a_running_job(
    filled: wb.Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    job_row(filled, "running")
    assert run(filled, "clear") == 1
    assert "1 job is running and may use the cache" in capsys.readouterr().err
    assert (filled.cache / "drawings.npz").exists()
