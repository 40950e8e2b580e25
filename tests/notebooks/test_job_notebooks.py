"""The job notebooks under nbval and under papermill by hand, with parameters; both leave records."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest

import workbench as wb
from adapters.vlm_quantization.dummy import write_dummy_collection

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
ADAPTER = "vlm_quantization"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with one run trained on the dummy collection, by the train notebook under nbval."""
    folder = tmp_path_factory.mktemp("notebooks")
    collection = write_dummy_collection(folder / "shapes")
    small = {
        "collection": str(collection),
        "encoder": "random",
        "text_tower": "ngrams",
        "steps": 30,
        "refit_steps": 10,
        "validate_every": 10,
        "batch": 16,
        "hidden": 32,
        "dim": 32,
        "text_buckets": 512,
        "text_width": 32,
        "threads": 1,
    }
    nbval("train", folder / "results", small)
    return folder / "results"


def nbval(name: str, home: Path, options: dict[str, object]) -> None:
    """Run nbval on a copy of a notebook with parameters injected as papermill does."""
    notebook = papermill.iorw.load_notebook_node(str(NOTEBOOKS / f"{name}.ipynb"))
    parameters = {"adapter": ADAPTER, "options": json.dumps(options), "workspace": str(home)}
    home.mkdir(exist_ok=True)
    copy = home / f"{name}.ipynb"
    filled = papermill.parameterize.parameterize_notebook(notebook, parameters)
    nbformat.write(filled, copy)
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(home)]
    flags = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout", "120", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *flags, str(copy)], capture_output=True, text=True, timeout=300, check=False, cwd=home
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert f"{sum(cell.cell_type == 'code' for cell in filled.cells)} passed" in done.stdout


def job(home: Path, kind: str) -> wb.Job:
    with wb.Workspace(home) as workspace:
        return workspace.jobs(type=kind, limit=1)[0]


def test_train_leaves_a_run(home: Path) -> None:
    done = job(home, "train")
    assert done.status == "succeeded"
    with wb.Workspace(home) as workspace:
        assert workspace.run(done.result.made["run"]).summary["val/R@10"]["count"] == 3


def test_the_steps_of_the_notebook_give_the_weights_of_one_call(home: Path) -> None:
    done = job(home, "train")
    with wb.Workspace(home) as workspace:
        by_steps = workspace.run(done.result.made["run"])
        with wb.job_scope("train", ADAPTER, done.options, workspace=workspace) as scope:
            result = scope.finish(scope.adapter.train(scope.options, scope))
        at_once = workspace.run(result.made["run"])
        assert result.metrics == done.result.metrics
        for name in ("best.safetensors", "refit.safetensors"):
            one, other = (Path(run.checkpoint(name)).read_bytes() for run in (by_steps, at_once))
            assert one == other


def test_evaluate_under_nbval_leaves_a_result(home: Path) -> None:
    nbval("evaluate", home, {})
    done = job(home, "eval")
    assert done.status == "succeeded"
    assert done.result.metrics["t2i/R@10@128"] > 0


def test_build_index_under_nbval_leaves_an_index(home: Path) -> None:
    nbval("build_index", home, {"name": "도형"})
    with wb.Workspace(home) as workspace:
        assert workspace.index_names() == ["도형"]
        assert len(workspace.open_search("도형").by_text("red circle", k=3)) == 3


def papermill_by_hand(home: Path, **parameters: str) -> subprocess.CompletedProcess[str]:
    command = [shutil.which("papermill", path=str(Path(sys.executable).parent)) or "papermill"]
    words = [f"-p {name} {value}".split(" ", 2) for name, value in parameters.items()]
    words = [word for three in [*words, ["-p", "workspace", str(home)]] for word in three]
    return subprocess.run(
        [*command, str(NOTEBOOKS / "evaluate.ipynb"), str(home / "out.ipynb"), "--no-progress-bar", *words],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_papermill_by_hand_holds_a_result_to_its_floor(home: Path) -> None:
    done = papermill_by_hand(
        home, options='{"ks": [10]}', worst="0", baselines="False", fail_below='{"t2i/R@10@128": 1.01}'
    )
    assert done.returncode != 0
    assert re.search(r"BelowFloor: .*t2i/R@10@128.*1\.01", done.stderr)
    row = job(home, "eval")
    assert (row.status, row.error["type"]) == ("failed", "BelowFloor")
    assert row.result.views


def test_papermill_by_hand_leaves_the_same_records(home: Path) -> None:
    done = papermill_by_hand(home, run="1", protocol="dcmh", ks="[1, 10]", flags="False")
    assert done.returncode == 0, done.stderr[-3000:]
    row = job(home, "eval")
    assert row.status == "succeeded"
    set_by_name = {"run": 1, "protocol": "dcmh", "ks": [1, 10], "flags": False}
    assert {name: row.options[name] for name in set_by_name} == set_by_name
    assert "retrieval_table" in {view.kind for view in row.result.views}
    # the report is the executed notebook, and its plots are saved as files of the job
    report = "".join(
        part.get("data", {}).get("text/html", "")
        for cell in nbformat.read(home / "out.ipynb", as_version=4).cells
        for part in cell.get("outputs", ())
    )
    assert all(view.title in report for view in row.result.views)
    assert "Run card" in report
    plots = sorted((home / "jobs" / str(row.id) / "plots").iterdir())
    curves = [view for view in row.result.views if view.kind == "curve"]
    assert len(curves) > 3
    assert [path.suffix for path in plots] == [".png", ".svg"] * len(curves)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"run": "99"}, "no run 99"),
        ({"fail_belw": '{"t2i/R@10@128": 0.99}', "protocl": "dcmh"}, "did you mean 'fail_below'?"),
    ],
)
def test_papermill_by_hand_refuses_a_mistake_in_the_first_cell(
    home: Path, parameters: dict[str, str], says: str
) -> None:
    def rows() -> int:
        with wb.Workspace(home) as workspace:
            return workspace.count_jobs()

    before = rows()
    done = papermill_by_hand(home, **parameters)
    assert done.returncode != 0
    assert says in done.stderr
    assert rows() == before
