"""What a notebook declares, read without running it; and what may be given for it."""

import json
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest

import workbench as wb
from workbench.notebooks.parameters import (
    Parameter,
    check_injected,
    check_parameters,
    declared_parameters,
    parameters_model,
)


def page(folder: Path, source: str | list[str], tag: str = "parameters") -> Path:
    path = folder / "mine.ipynb"
    cell = {
        "cell_type": "code",
        "id": "a",
        "metadata": {"tags": [tag]},
        "source": source,
        "outputs": [],
        "execution_count": None,
    }
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [cell]}))
    return path


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("k: int = 3  # how many", Parameter("k", "int", 3, True, "how many")),
        ("k = 3", Parameter("k", "int", 3, True)),
        ("flag = False", Parameter("flag", "bool", False, True)),
        ("lr: float = 1e-3", Parameter("lr", "float", 1e-3, True)),
        ("이름 = '강아지'", Parameter("이름", "str", "강아지", True)),
        ("o: int | None = None", Parameter("o", "int | None", None, True)),
        ("o: 'Optional[str]' = None", Parameter("o", "str | None", None, True)),
        ("xs: list[int] = [1, 2]", Parameter("xs", "list", [1, 2], True)),
        ("w = 2 * 3", Parameter("w")),
        ("x: Thing = None", Parameter("x", "", None, True)),
        ("%matplotlib inline\n!ls\nk = 1", Parameter("k", "int", 1, True)),
        ("%%time\nk = 1  # how many", Parameter("k", "int", 1, True, "how many")),
        ("if True:\n    %matplotlib inline\nk = 1", Parameter("k", "int", 1, True)),
        ("print?\nk = 1  # how many", Parameter("k", "int", 1, True, "how many")),
        ("files = !ls", Parameter("files")),
        ("home = %env HOME", Parameter("home")),
        ("k: int  # how many", Parameter("k", "int", None, False, "how many", required=True)),
        ("k: int\nk = 1", Parameter("k", "int", 1, True)),
        ("k: Thing", Parameter("k", required=True)),
    ],
)
def test_each_assignment_declares_a_parameter(line: str, found: Parameter, tmp_path: Path) -> None:
    assert declared_parameters(page(tmp_path, line)) == [found]
    assert declared_parameters(page(tmp_path, line.splitlines(keepends=True))) == [found]


@pytest.mark.parametrize(
    "line",
    [
        "%%bash\nk=1",
        "%%writefile x\nk = 1",
        "a.b: int",
        "a.b = 1",
        "a[0] = 1",
        "a, b = 1, 2",
        "import os",
        "print(1)",
        "# k = 1",
        "",
    ],
)
def test_nothing_else_does(line: str, tmp_path: Path) -> None:
    assert declared_parameters(page(tmp_path, line)) == []
    assert declared_parameters(page(tmp_path, "k = 1", tag="other")) == []


def test_names_of_a_models_own_are_names_like_others(tmp_path: Path) -> None:
    names = ["json", "copy", "model_config", "schema", "model_dump", "validate", "_private"]
    path = page(tmp_path, "\n".join(f"{name}: int = 1  # help of {name}" for name in names))
    schema = parameters_model(path).model_json_schema()
    assert list(schema["properties"]) == names
    assert schema["properties"]["json"] == {
        "default": 1,
        "description": "help of json",
        "title": "json",
        "type": "integer",
    }
    assert check_parameters(path, dict.fromkeys(names, 2)) == dict.fromkeys(names, 2)


def test_only_what_is_given_is_passed_on(tmp_path: Path) -> None:
    path = page(tmp_path, "k: int = 3\nlr: float = 0.1\nw = 2 * k")
    assert check_parameters(path, None) == {}
    assert check_parameters(path, {"lr": 1, "w": [1]}) == {"lr": 1.0, "w": [1]}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"q": 1}, "q: unknown option; allowed: k, lr"),
        ({"k": "three"}, "k: .*integer.*got 'three'"),
        ({"k": 1.5}, "k: .*integer"),
        ({"k": None}, "k: "),
        ({"lr": "x", "k": []}, "k: .*; lr: "),
        ({"k = 1; import os": 1}, "unknown option"),
        ({3: 1}, "unknown option|string"),
        ([1], "must be a dictionary"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(given: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(wb.BadOptions, match=says):
        check_parameters(page(tmp_path, "k: int = 3\nlr: float = 0.1"), given)


def test_what_has_no_value_must_be_given(tmp_path: Path) -> None:
    path = page(tmp_path, "source: str\nk: int = 1\nfolder: str | None")
    with pytest.raises(wb.BadOptions, match=r"mine\.ipynb needs a value for 'source', 'folder'") as raised:
        check_parameters(path, {"k": 2})
    assert [name for name, _ in raised.value.problems] == ["source", "folder"]
    assert "default" in raised.value.hint
    assert check_parameters(path, {"source": "a", "folder": None}) == {"source": "a", "folder": None}
    assert parameters_model(path).model_json_schema()["required"] == ["source", "folder"]


def test_parameters_for_a_notebook_without_any_are_refused(tmp_path: Path) -> None:
    with pytest.raises(wb.BadOptions, match="not declare any parameters") as raised:
        check_parameters(page(tmp_path, "k = 1", tag="x"), {"k": 1})
    assert raised.value.problems == (("k", "not declared"),)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "[]",
        '{"nbformat": 3, "worksheets": []}',
        '{"nbformat": 4}',
        '{"nbformat": 4, "cells": 3}',
    ],
)
def test_what_is_no_notebook_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.ipynb").write_text(text)
    with pytest.raises(wb.BadInput, match="notebook"):
        declared_parameters(tmp_path / "x.ipynb")


@pytest.mark.parametrize("source", ["k = (", "k = 'a", "def f(:"])
def test_a_cell_that_cannot_be_read_is_named(source: str, tmp_path: Path) -> None:
    with pytest.raises(wb.BadInput, match=r"parameters cell of mine\.ipynb"):
        declared_parameters(page(tmp_path, source))


# Submitting -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["http://x/y.ipynb", "s3://b/y.ipynb", "file:///y.ipynb", "", "nowhere.ipynb", ".", "\0.ipynb", "x.py"],
)
def test_only_notebooks_of_this_machine_are_submitted(workspace: wb.Workspace, path: str) -> None:
    with pytest.raises(wb.BadInput):
        workspace.submit_notebook(path)
    assert workspace.jobs() == []


def test_what_is_executed_is_what_was_submitted(workspace: wb.Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "a b 강"
    folder.mkdir()
    (folder / "helper.py").write_text("word = 'from the folder'")
    (folder / "data.txt").write_text("read")
    path = folder / "mine.ipynb"
    cells = [
        nbformat.v4.new_code_cell("k: int = 1", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("import helper; print(helper.word, open('data.txt').read(), k)"),
        nbformat.v4.new_code_cell("1 / 0"),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    (tmp_path / "link.ipynb").symlink_to(path)
    job = workspace.submit_notebook(tmp_path / "link.ipynb", {"k": 7})
    path.write_text("edited meanwhile")
    with pytest.raises(wb.JobFailed, match="ZeroDivisionError"):
        job.wait(300)
    assert (job.type, job.adapter, job.source, job.options) == ("notebook", "", str(path), {"k": 7})
    assert job.error is not None
    assert job.error["cell"] == 4  # papermill's own cell of parameters counts
    assert "from the folder read 7" in job.logs()
    assert job.progress[:2] == (3.0, 4.0)
    assert job.progress.stages[0].name == "cell 4 of 4"
    with pytest.raises(wb.BadInput):  # it can be submitted again once it is a notebook again
        workspace.submit_notebook(job.source)


def test_bars_of_a_notebook_that_knows_nothing_of_jobs_are_its_progress(
    workspace: wb.Workspace, tmp_path: Path
) -> None:
    work = (
        "import pathlib, time\nfrom tqdm import tqdm\n"
        "for i in tqdm(range(30), desc='그림'):\n    time.sleep(0.1)\n"
        "    while i == 20 and not pathlib.Path('seen').exists(): time.sleep(0.1)"
    )
    cells = [nbformat.v4.new_code_cell("pass"), nbformat.v4.new_code_cell(work)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "bars.ipynb")
    seen = []

    def look(job: wb.Job) -> None:
        seen.append(job.progress)
        if len(job.progress.stages) == 2 and job.progress.rate and job.progress.left:
            (tmp_path / "seen").touch()

    job = workspace.submit_notebook(tmp_path / "bars.ipynb")
    job.wait(300, on_progress=look)
    bars = [progress for progress in seen if len(progress.stages) == 2]
    assert bars
    assert {progress.stages[1].name for progress in bars} == {"그림"}
    assert {progress.stages[0].name for progress in bars} == {"cell 2 of 2"}
    assert all(1 <= progress.done <= 2 and progress.total == 2 for progress in bars)
    assert [progress.done for progress in bars] == sorted(progress.done for progress in bars)
    # A tenth of a second each, and longer on a busy machine.
    assert any(progress.rate and 0 < progress.rate < 15 and progress.left for progress in bars)


DECLARING = "adapter: str = ''\noptions = '{}'\na, b = 1, 2\nfail_below = ''"


def injected(**values: object) -> str:
    """The cell that papermill makes of parameters."""
    codify = papermill.translators.papermill_translators.find_translator("python3", "python").codify
    return str(codify(values))


@pytest.mark.parametrize(("name", "meant"), [("fail_belw", "fail_below"), ("optoins", "options")])
def test_an_injected_name_that_is_not_declared_is_refused_with_the_nearest(name: str, meant: str) -> None:
    cells = ["", DECLARING, injected(options="{}", **{name: "x"}), "import workbench as wb"]
    with pytest.raises(wb.BadOptions, match=f"{name}: unknown parameter; did you mean '{meant}'") as raised:
        check_injected(cells)
    assert [field for field, _ in raised.value.problems] == [name]


@pytest.mark.parametrize(
    "cells",
    [
        [],
        ["", DECLARING, "later = 1"],
        ["", DECLARING, injected(options="{}", a=5, fail_below="")],
        ["", injected(anything=1), "print(anything)"],  # no parameters cell: nothing is declared
        ["", "import os", injected(anything=1)],
        ["", "%%bash\nls", injected(anything=1)],
    ],
)
def test_what_a_notebook_declares_or_leaves_open_passes(cells: list[str]) -> None:
    check_injected(cells)
