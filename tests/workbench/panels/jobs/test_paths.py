"""What a typed path means: relative to JupyterLab's folder, then to the notebook's."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.panels.jobs.paths import place_options, placed


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for folder in ("photos", "notebooks/own", "emoji"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("photos/captions.jsonl", "notebooks/own/사진.jsonl", "both.jsonl", "notebooks/both.jsonl"):
        (tmp_path / file).touch()
    monkeypatch.chdir(tmp_path / "notebooks")  # where the kernel of a page runs
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "means"),
    [
        ("photos/captions.jsonl", "photos/captions.jsonl"),
        ("own/사진.jsonl", "notebooks/own/사진.jsonl"),
        ("both.jsonl", "both.jsonl"),  # as JupyterLab shows it
        ("./photos/../both.jsonl", "both.jsonl"),
    ],
)
def test_a_relative_path_starts_in_jupyterlabs_folder(project: Path, typed: str, means: str) -> None:
    assert placed(typed, str(project)) == (str(project / means), "")


@pytest.mark.parametrize("name", ["emoji", "", "/somewhere/else.jsonl", "half\0a name", "s3://b/x.ipynb"])
def test_names_and_absolute_paths_stay_as_they_are(project: Path, name: str) -> None:
    assert placed(name, str(project)) == (name, "")


def test_without_jupyterlabs_folder_the_notebooks_counts(project: Path) -> None:
    assert placed("own/사진.jsonl", "") == (str(project / "notebooks/own/사진.jsonl"), "")


def test_a_missing_file_is_said_with_both_folders(project: Path) -> None:
    path, problem = placed("photos/capitons.jsonl", str(project))
    assert path == "photos/capitons.jsonl"
    assert problem == (
        f"no file 'photos/capitons.jsonl' in {project} (JupyterLab's folder) "
        f"and {project / 'notebooks'} (the notebook's folder)"
    )


def test_options_that_are_paths_are_placed_and_others_left_alone(project: Path) -> None:
    options = {"collection": "photos/captions.jsonl", "name": "photos/captions.jsonl", "run": 3}
    out, problems = place_options(options, ["collection", "run", "absent"], str(project))
    assert out == {**options, "collection": str(project / "photos/captions.jsonl")}
    assert problems == []
    _, problems = place_options({"collection": "no/file.jsonl"}, ["collection"], str(project))
    assert [name for name, _ in problems] == ["collection"]
