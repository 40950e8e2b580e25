"""What a typed path means: relative to JupyterLab's folder, then to the notebook's."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.panels.jobs.paths import place_options, placed, placed_name, placed_sources


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
    fields = [
        *({"name": name, "path": "path"} for name in ("collection", "run", "absent")),
        {"name": "name", "path": ""},
    ]
    out, problems = place_options(options, fields, str(project))
    assert out == {**options, "collection": str(project / "photos/captions.jsonl")}
    assert problems == []
    _, problems = place_options({"collection": "no/file.jsonl"}, fields, str(project))
    assert [name for name, _ in problems] == ["collection"]


@pytest.mark.parametrize(
    ("typed", "means"),
    [
        ("emoji", "emoji"),  # a name, although a folder is called so
        ("photos", "{}/photos"),
        ("photos/", "{}/photos"),
        ("photos?captions_from=name", "{}/photos?captions_from=name"),
        ("both.jsonl?a=b&c=d/e + emoji", "{}/both.jsonl?a=b&c=d/e + emoji"),
        ("zip:photos/captions.jsonl + photos", "zip:{}/photos/captions.jsonl + {}/photos"),
        ("photos/part-{00..12}.tar", "{}/photos/part-{00..12}.tar"),
        ("unknown", "unknown"),  # what takes it knows whether it is a name
    ],
)
def test_several_paths_and_names_with_options_are_placed_one_by_one(
    project: Path, typed: str, means: str
) -> None:
    text, problem = placed_sources(typed, str(project), ["emoji"])
    assert (text, problem) == (means.replace("{}", str(project)), "")


def test_a_file_whose_name_looks_like_several_is_taken_as_it_is(project: Path) -> None:
    (project / "a + b?.jsonl").touch()
    assert placed_sources("a + b?.jsonl", str(project)) == (str(project / "a + b?.jsonl"), "")


def test_each_missing_one_of_several_is_named(project: Path) -> None:
    text, problem = placed_sources("no/a.csv?image=x + both.jsonl + no/b-{0..1}.tar", str(project))
    assert text == "no/a.csv?image=x + both.jsonl + no/b-{0..1}.tar"
    assert [problem.count(name) for name in ("'no/a.csv'", "both.jsonl", "'no'")] == [1, 0, 1]


@pytest.mark.parametrize(
    ("typed", "means"),
    [
        ("owner/model", "owner/model"),
        ("photos/captions.jsonl", "{}/photos/captions.jsonl"),
        ("fast:photos", "fast:{}/photos"),
        ("packaged", "packaged"),
    ],
)
def test_a_name_that_looks_like_a_path_is_one_only_if_it_exists(
    project: Path, typed: str, means: str
) -> None:
    assert placed_name(typed, str(project)) == (means.format(project), "")
