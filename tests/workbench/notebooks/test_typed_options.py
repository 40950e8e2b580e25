"""The parameters cell that is written from a schema, and the options that are read back from its names."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal

import nbformat
import pytest
from pydantic import BaseModel, Field

import workbench as wb
from workbench.notebooks import shipped
from workbench.notebooks.parameters import declared_parameters
from workbench.notebooks.typed_options import given_options, is_in_step, parameters_cell, sync


class Choices(wb.Options):
    run: int | None = Field(None, title="Run", description="Empty: the newest")
    rule: Literal["default", "other"] = Field("default", title="Rule of metrics")
    ks: tuple[int, ...] = (1, 5)
    rate: float = Field(0.5, title="Rate", description="A long description of it. " * 6)
    top: float = math.inf
    words: dict[str, int] = Field({})
    seed: int = Field(0, title="Seed")
    title: str = 'a "강아지"'
    either: int | str = 3
    workspace: str = "not the workspace"


class Needed(wb.Options):
    source: str
    anything: Any


def names_of(cell: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(cell, names)  # noqa: S102  # it was written above
    return names


def page(folder: Path, cell: str) -> Path:
    path = folder / "own.ipynb"
    cells = [
        nbformat.v4.new_markdown_cell("# Own"),
        nbformat.v4.new_code_cell(cell, metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("import workbench as wb"),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_each_option_is_a_typed_name_with_its_default_and_its_words() -> None:
    lines = parameters_cell(Choices, "toy").splitlines()
    assert "run: int | None = None  # Empty: the newest" in lines
    assert 'rule: str = "default"  # Rule of metrics. One of: default, other' in lines
    assert "ks: list = [1, 5]" in lines
    assert "seed: int = 0" in lines
    assert 'top: float = float("inf")' in lines
    assert "words: dict = {}" in lines
    assert 'title: str = "a \\"강아지\\""' in lines
    assert "either = 3" in lines
    assert max(map(len, lines)) <= 100
    above = lines[lines.index("rate: float = 0.5") - 1]
    assert above.startswith("# ")
    assert above.endswith("A long description of it")


def test_names_that_every_notebook_has_are_no_options() -> None:
    names = names_of(parameters_cell(Choices, "toy", floors=True))
    assert (names["workspace"], names["adapter"], names["options"], names["fail_below"]) == (
        "",
        "toy",
        "{}",
        "",
    )
    assert "fail_below" not in names_of(parameters_cell(Choices, "toy"))
    assert given_options(Choices, names) == {}


def test_an_option_without_a_default_is_required(tmp_path: Path) -> None:
    declared = {one.name: one for one in declared_parameters(page(tmp_path, parameters_cell(Needed, "toy")))}
    assert declared["source"].required
    assert declared["anything"].required
    assert not declared["options"].required
    with pytest.raises(wb.BadInput, match="source: Field required"):
        wb.start_job("eval", Needing(), {"options": "{}"})


class Needing(wb.BaseAdapter):
    name, title = "needing", "Needs a source"

    def options(self, task: str) -> type[BaseModel]:
        return Needed

    def evaluate(self, options: object, job: object) -> wb.Result:
        return wb.Result(summary="")


def test_what_differs_from_the_defaults_is_given() -> None:
    names = names_of(parameters_cell(Choices, "toy"))
    assert given_options(Choices, names) == {}
    changed = {"run": 3, "ks": [1, 10], "rule": "other", "job": object(), "top": math.nan}
    given = given_options(Choices, names | changed)
    assert math.isnan(given.pop("top"))
    assert given == {"run": 3, "ks": [1, 10], "rule": "other"}
    assert given_options(Choices, {"ks": "[2, 3]", "options": {"seed": 4, "workspace": "w"}}) == {
        "ks": [2, 3],
        "seed": 4,
        "workspace": "w",
    }
    assert given_options(Choices, {"ks": "1 and 2"}) == {"ks": "1 and 2"}  # the schema refuses it in words


def test_an_option_is_given_once() -> None:
    assert given_options(Choices, {"run": 3, "options": '{"run": 3}'}) == {"run": 3}
    with pytest.raises(wb.BadOptions, match=r"run: given twice: 3, and 4 in options"):
        given_options(Choices, {"run": 3, "options": '{"run": 4}'})
    for options, says in (
        ("{", "not valid JSON"),
        ("[1]", "must be a JSON object"),
        (3, "must be a JSON object"),
    ):
        with pytest.raises(wb.BadOptions, match=says):
            given_options(Choices, {"options": options})


def test_a_notebook_out_of_step_is_written_again_and_nothing_else_of_it(tmp_path: Path) -> None:
    path = page(tmp_path, "old = 1")
    assert not is_in_step(path, Choices, "toy")
    assert sync(path, Choices, "toy")
    assert is_in_step(path, Choices, "toy")
    written = path.read_text(encoding="utf-8")
    assert not sync(path, Choices, "toy")
    assert path.read_text(encoding="utf-8") == written
    cells = nbformat.read(path, as_version=4).cells
    assert [cell.source for cell in cells][::2] == ["# Own", "import workbench as wb"]
    assert "강아지" in written


def test_a_notebook_that_takes_floors_keeps_them(tmp_path: Path) -> None:
    path = page(tmp_path, parameters_cell(Choices, "toy", floors=True))
    assert is_in_step(path, Choices, "toy")


def test_a_notebook_without_the_cell_is_refused(tmp_path: Path) -> None:
    path = page(tmp_path, "a = 1")
    bare = json.loads(path.read_text(encoding="utf-8"))
    bare["cells"].pop(1)
    path.write_text(json.dumps(bare))
    with pytest.raises(wb.BadInput, match="no cell tagged 'parameters'"):
        sync(path, Choices, "toy")


def test_a_job_sets_by_name_what_differs_and_the_rest_together(tmp_path: Path) -> None:
    path = page(tmp_path, parameters_cell(Choices, "toy"))
    options = Choices(run=3, ks=(1, 10), rate=math.inf).model_dump(mode="json") | {"new": 1, "top": "inf"}
    options["rate"] = "inf"  # as jobs are stored
    values = shipped.job_parameters(path, "toy", options, tmp_path)
    assert values == {
        "adapter": "toy",
        "workspace": str(tmp_path),
        "run": 3,
        "ks": [1, 10],
        "rate": math.inf,
        "top": math.inf,
        "options": {"workspace": "not the workspace", "new": 1},
    }


def test_options_that_a_notebook_has_no_place_for_are_refused(tmp_path: Path) -> None:
    path = page(tmp_path, "run: int = 0")
    assert shipped.job_parameters(path, "toy", {"run": 3}, tmp_path) == {"run": 3}
    with pytest.raises(wb.BadInput, match="does not name the options k") as caught:
        shipped.job_parameters(path, "toy", {"k": 3}, tmp_path)
    assert "workbench notebooks sync toy" in caught.value.help
