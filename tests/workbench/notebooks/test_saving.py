"""Saving executed notebooks: how often, and that this user's Jupyter trusts them."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import nbformat
import pytest
from nbformat.sign import NotebookNotary

from workbench.notebooks import saving
from workbench.notebooks.saving import NotebookSaver


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    output = nbformat.v4.new_output("display_data", {"text/html": "<style></style><b>표</b>"})
    cell = nbformat.v4.new_code_cell("1", outputs=[output])
    return nbformat.v4.new_notebook(cells=[cell])


def test_a_saved_report_is_signed_where_this_users_jupyter_looks(
    tmp_path: Path, notebook: nbformat.NotebookNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    saver = NotebookSaver(tmp_path / "notebook.ipynb")
    saver.notebook = notebook
    saver.save_at_last()
    read = nbformat.read(saver.path, as_version=4)
    notary = NotebookNotary(data_dir=str(tmp_path / "data"))
    assert notary.check_signature(read)
    read.cells[0].outputs[0].data["text/html"] += "<script></script>"
    assert not notary.check_signature(read)


def test_a_report_that_cannot_be_signed_is_kept_and_said(
    tmp_path: Path,
    notebook: nbformat.NotebookNode,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "a file").touch()
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "a file"))
    saver = NotebookSaver(tmp_path / "notebook.ipynb")
    saver.notebook = notebook
    saver.save_at_last()
    assert nbformat.read(saver.path, as_version=4).cells[0].source == "1"
    assert "the notebook could not be signed" in capfd.readouterr().err


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


@pytest.fixture
def saver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NotebookSaver:
    """Saves beside a Jupyter data folder, whose secret signs."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    return NotebookSaver(tmp_path / "notebook.ipynb")


def killed(saver: NotebookSaver, notebook: nbformat.NotebookNode, *, between: bool = False) -> None:
    """Save a notebook twice, as a runner does that is killed later, or before its second save is in place."""
    saver.notebook = notebook
    saver.save(force=True)
    notebook.cells[0].outputs[0].data["text/html"] += "<i>more</i>"
    with pytest.MonkeyPatch.context() as patch:
        if between:
            patch.setattr(saving, "write_whole", lambda *_, **__: None)
        saver.save(force=True)


@pytest.mark.parametrize("between", [False, True])
def test_a_report_whose_runner_was_killed_is_signed_later(
    between: bool, tmp_path: Path, saver: NotebookSaver, notebook: nbformat.NotebookNode
) -> None:
    killed(saver, notebook, between=between)
    read = nbformat.read(saver.path, as_version=4)
    assert ("more" in str(read)) != between
    with closing(NotebookNotary(data_dir=str(tmp_path / "data"))) as notary:
        assert not notary.check_signature(read)
        assert saving.sign_if_ours(saver.path)
        assert notary.check_signature(read)
    assert not saving.sign_if_ours(saver.path)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["notebook.ipynb"]


def test_a_report_that_somebody_edited_is_not_signed(
    tmp_path: Path, saver: NotebookSaver, notebook: nbformat.NotebookNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(saver, notebook)
    read = nbformat.read(saver.path, as_version=4)
    read.cells[0].outputs[0].data["text/html"] += "<script></script>"
    nbformat.write(read, saver.path)
    assert not saving.sign_if_ours(saver.path)
    # Nor if the note is of somebody else's secret.
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "other"))
    with closing(NotebookNotary(data_dir=str(tmp_path / "data"))) as notary:
        assert not notary.check_signature(read)
        saving._noted(saver.path).write_text(notary.compute_signature(read))
    assert not saving.sign_if_ours(saver.path)


def test_a_finished_report_leaves_no_note(saver: NotebookSaver, notebook: nbformat.NotebookNode) -> None:
    killed(saver, notebook)
    assert saving._noted(saver.path).is_file()
    saver.save_at_last()
    assert not saving._noted(saver.path).exists()
