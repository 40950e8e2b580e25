"""What keeps a job from beginning, at every door; and what it says of lines that could not be used."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import workbench as wb
from adapters.vlm_quantization.adapter import VlmQuantization
from adapters.vlm_quantization.data.collection import CaptionedImages, UnusableLine
from adapters.vlm_quantization.job_inputs import left_out, problems_of
from tests.adapters.vlm_quantization import shapes
from workbench import cli
from workbench.panels.jobs.panel import JobsPanel
from workbench.store import records


def collection(problems: int, **more: Any) -> CaptionedImages:
    lines = [UnusableLine(number, f"no such file: '{number}\udce9.png'") for number in range(1, problems + 1)]
    return CaptionedImages("mine", shapes.collection().items, problems=lines, **more)


@pytest.mark.parametrize("problems", [0, 1, 3])
def test_a_few_skipped_lines_are_in_the_warning_itself(workspace: wb.Workspace, problems: int) -> None:
    with _job(workspace) as job:
        warnings = problems_of(collection(problems, notes=["Ignored fields: 'x'."]), job)
        assert warnings[-1] == "Ignored fields: 'x'."
        assert len(warnings) == 1 + bool(problems)
        for number in range(1, problems + 1):
            assert f"line {number}: " in warnings[0]
        assert not (workspace.jobs_dir / str(job.id) / "skipped-lines.txt").exists()


def test_many_are_all_in_a_file_beside_the_job(workspace: wb.Workspace) -> None:
    with _job(workspace) as job:
        (warning,) = problems_of(collection(500), job)
        file = workspace.jobs_dir / str(job.id) / "skipped-lines.txt"
        assert str(file) in warning
        assert "and 497 more" in warning
        lines = file.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 500
    assert lines[499] == "line 500: no such file: '500\\udce9.png'"


def _job(workspace: wb.Workspace) -> Any:
    return wb.job_scope("train", "vlm_quantization", {}, workspace=workspace)


def test_a_summary_says_what_was_left_out() -> None:
    assert left_out(collection(0)) == ""
    assert left_out(collection(1)) == ", 1 line left out"
    assert left_out(collection(1200), skipped=2) == ", 1,200 lines left out, 2 pictures left out"


# Mistakes, at every door --------------------------------------------------------------------------------

FAMILY = "vlm_quantization"


def by_python(home: wb.Workspace, kind: str, options: dict[str, Any], floors: str, capsys: Any) -> str:
    with pytest.raises(wb.BadOptions) as raised:
        home.submit(kind, FAMILY, options, fail_below=floors)
    return raised.value.message


def by_notebook(home: wb.Workspace, kind: str, options: dict[str, Any], floors: str, capsys: Any) -> str:
    given = json.dumps(options)
    with (
        pytest.raises(wb.BadOptions) as raised,
        wb.job_scope(kind, FAMILY, given, workspace=home, fail_below=floors),
    ):
        raise AssertionError("it began")
    return raised.value.message


def by_command(home: wb.Workspace, kind: str, options: dict[str, Any], floors: str, capsys: Any) -> str:
    given = [word for name, value in options.items() for word in ("-o", f"{name}={json.dumps(value)}")]
    gate = ["--fail-below", floors] if floors else []
    command = ["jobs", "submit", kind, "--adapter", FAMILY, *given, *gate]
    assert cli.run(["--workspace", str(home.path), *command]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) <= 3
    return str(err)


def by_panel(home: wb.Workspace, kind: str, options: dict[str, Any], floors: str, capsys: Any) -> str:
    panel = JobsPanel(home, adapter=FAMILY)
    sent: list[Any] = []
    panel.send = sent.append
    panel.answer({"type": "submit", "job_type": kind, "adapter": FAMILY, "options": options, "form": 1})
    (refused,) = sent
    assert refused["type"] == "refused"
    assert refused["problems"], "no field of the form is marked"
    return str(refused["message"])


NONE_BEST = r"checkpoint: run 1: no checkpoint .*Known: best"
MISTAKES: list[tuple[str, dict[str, Any], str, str]] = [
    ("eval", {"run": 99999}, "", r"run: no run 99999: the newest is 2"),
    ("eval", {"run": 1, "checkpoint": "../../etc/passwd"}, "", NONE_BEST),
    ("eval", {"run": 1, "checkpoint": "bets.safetensors"}, "", r"did you mean 'best\.safetensors'"),
    ("eval", {"run": 2}, "", r"its settings name no collection"),
    ("eval", {"run": 1, "seeds": [5]}, "", r"seeds: .*seed 5"),
    ("eval", {"runn": 1}, "", r"runn: unknown option; did you mean 'run'"),
    ("eval", {"run": 1}, '{"R@10": 0.35}', r"no metric 'R@10'; did you mean 't2i/R@10@128'"),
    ("eval", {"run": 1}, '{"t2i/R@7@128": 0.35}', r"no metric 't2i/R@7@128'"),
    ("eval", {"run": 1}, "{", r"fail_below is not valid JSON"),
    ("index_build", {"name": "../../x", "run": 1}, "", r"name: invalid index name '../../x'"),
    ("index_build", {"name": ".hidden", "run": 1}, "", r"name: invalid index name"),
    ("index_build", {"run": 99999}, "", r"run: no run 99999"),
    ("index_build", {"run": 1}, '{"picturs": 3}', r"did you mean 'pictures'"),
    ("index_build", {"run": 1, "collection": "FOLDER/shape.jsonl"}, "", r"Did you mean '\S*shapes\.jsonl'"),
    ("train", {"collection": "FOLDER/photos/none.jsonl"}, "", r"collection: .*not found"),
    ("train", {"collection": "FOLDER"}, "", r"no captions to train on. Did you mean '\S*shapes\.jsonl'"),
    ("train", {"collection": "emjoi"}, "", r"Did you mean 'emoji'"),
    ("train", {}, '{"val/R@5": 0.1}', r"no metric 'val/R@5'; did you mean 'val/R@10'"),
]


@pytest.fixture
def two_runs(workspace: wb.Workspace, tmp_path: Path) -> wb.Workspace:
    """A workspace with a run that a train job could have made, and one that was logged by hand."""
    (tmp_path / "shapes.jsonl").write_text("{}")
    (tmp_path / "weights").write_bytes(b"weights")
    config = {"collection": str(tmp_path / "shapes.jsonl"), "split_seed": 0, "seed": 0}
    for settings in (config, {"lr": 0.1}):
        with workspace.start_run("e", config=settings) as run:
            run.log_checkpoint("best.safetensors", tmp_path / "weights")
    return workspace


@pytest.mark.parametrize("door", [by_python, by_notebook, by_command, by_panel])
def test_a_mistake_is_found_before_anything_begins(
    two_runs: wb.Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str], door: Callable[..., str]
) -> None:
    for kind, options, floors, says in MISTAKES:
        if floors and door is by_panel:
            continue  # its forms have no floors
        given = {
            name: value.replace("FOLDER", str(tmp_path)) if isinstance(value, str) else value
            for name, value in options.items()
        }
        message = door(two_runs, kind, given, floors, capsys)
        assert re.search(says, message), (kind, options, message)
        assert len(message) < 1_000
    assert two_runs.jobs() == []
    assert not list(two_runs.path.glob(".worker*.lock"))


def test_what_is_right_passes(two_runs: wb.Workspace) -> None:
    family = VlmQuantization()
    for kind, options in (("train", {}), ("eval", {"run": 1}), ("index_build", {"run": 1})):
        checked = family.options(kind)(**options)
        assert list(family.find_problems(kind, checked, two_runs)) == []


def test_a_job_behind_a_training_may_wait_for_its_run(workspace: wb.Workspace) -> None:
    family = VlmQuantization()
    options = family.options("eval")()
    assert [option for option, _ in family.find_problems("eval", options, workspace)] == ["run"]
    workspace.store.add_job(records.JobRecord(type="train", adapter=FAMILY, status="queued"))
    assert list(family.find_problems("eval", options, workspace)) == []
