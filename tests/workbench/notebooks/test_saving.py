"""How often an executed notebook is saved."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from workbench.notebooks import saving
from workbench.notebooks.saving import NotebookSaver


@pytest.mark.parametrize(("cost", "most"), [(0.01, 61), (0.1, 31), (5.0, 2)])
def test_a_notebook_that_takes_long_to_save_is_saved_less_often(
    cost: float, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    saves: list[float] = []
    monkeypatch.setattr(saving.time, "monotonic", lambda: now)
    saver = NotebookSaver(tmp_path / "n.ipynb")
    saver.notebook = nbformat.v4.new_notebook()

    def write() -> None:
        nonlocal now
        saves.append(now)
        now += cost

    monkeypatch.setattr(saver, "_write", write)
    while now < 60.0:  # it changes all the time
        saver.save(touch=True)
        now += 0.05
    assert len(saves) <= most
    assert cost * (len(saves) - 1) <= saving.SAVE_SHARE * 60
    before = len(saves)
    saver.save_at_last()
    assert len(saves) == before + 1  # the final state, whatever it costs
