"""What a job says of a collection whose lines could not all be used."""

from __future__ import annotations

from typing import Any

import pytest

import workbench as wb
from adapters.vlm_quantization.data.collection import CaptionedImages, UnusableLine
from adapters.vlm_quantization.job_inputs import problems_of
from tests.adapters.vlm_quantization import shapes


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
    return wb.job_scope("eval", "vlm_quantization", {}, workspace=workspace)
