"""The notebooks of this family's jobs, as files; ``tests/notebooks`` and the stories execute them."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

import workbench as wb
from adapters.vlm_quantization import notebooks
from adapters.vlm_quantization.adapter import VlmQuantization
from workbench.adapter.contract import JOB_METHODS
from workbench.notebooks import shipped
from workbench.notebooks.typed_options import RESERVED, is_in_step

FAMILY = VlmQuantization()


def code(path: Path) -> list[str]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_each_job_has_a_notebook() -> None:
    assert shipped.own_notebooks(FAMILY).keys() == JOB_METHODS.keys()
    for kind in JOB_METHODS:
        assert shipped.job_notebook(kind, FAMILY) == notebooks.job_notebooks()[kind]


def test_an_installed_package_has_them_inside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "adapters" / "vlm_quantization"
    (tmp_path / "notebooks").mkdir()  # somebody else's
    monkeypatch.setattr(notebooks, "__file__", str(package / "notebooks.py"))
    assert notebooks.job_notebooks()["train"] == package / "_notebooks" / "train.ipynb"
    with pytest.raises(wb.NotFound, match=r"train\.ipynb of adapter 'vlm_quantization' is missing"):
        shipped.job_notebook("train", FAMILY)


def test_what_has_other_steps_runs_the_generic_notebook() -> None:
    generic = shipped.job_notebook("train")
    assert shipped.job_notebook("train", FAMILY, {"from_checkpoint": "last.ckpt"}) == generic

    class Other(VlmQuantization):
        name = "other"

    assert shipped.job_notebook("train", Other()) == generic


@pytest.mark.parametrize("kind", JOB_METHODS)
def test_the_parameters_are_the_options(kind: str) -> None:
    """If this fails, run: workbench notebooks sync vlm_quantization."""
    assert is_in_step(notebooks.job_notebooks()[kind], FAMILY.options(kind), FAMILY.name)


@pytest.mark.parametrize("kind", JOB_METHODS)
def test_no_cell_overwrites_a_parameter(kind: str) -> None:
    """The first cell can be run again, and reads the same options."""
    parameters, *cells = code(notebooks.job_notebooks()[kind])
    taken = {*FAMILY.options(kind).model_fields, *RESERVED}
    assert {node.target.id for node in ast.parse(parameters).body} <= taken  # type: ignore[attr-defined]
    for cell in cells:
        nodes: list[Any] = list(ast.walk(ast.parse(cell)))
        bound = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        bound |= {name.asname or name.name for node in nodes if hasattr(node, "names") for name in node.names}
        assert bound & taken == set()


@pytest.mark.parametrize("kind", JOB_METHODS)
def test_cells_are_short_and_hold_no_logic(kind: str) -> None:
    for cell in code(notebooks.job_notebooks()[kind])[1:]:
        nodes = ast.parse(cell).body
        assert len(nodes) <= 8, cell
        assert not any(isinstance(node, (ast.For, ast.If, ast.While, ast.FunctionDef)) for node in nodes), (
            cell
        )
