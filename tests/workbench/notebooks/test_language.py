"""Notebooks that ask for another language, or for the kernel of another environment."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import workbench as wb
from workbench.notebooks.language import check_language, kernel_note


def install(folder: Path, name: str, program: str, language: str) -> None:
    """Install a kernel for this user."""
    place = folder / "kernels" / name
    place.mkdir(parents=True)
    spec = {"argv": [program, "-f", "{connection_file}"], "display_name": name, "language": language}
    (place / "kernel.json").write_text(json.dumps(spec))


@pytest.fixture(autouse=True)
def _kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "ir", "R", "R")
    install(tmp_path, "here", sys.executable, "python")
    install(tmp_path, "elsewhere", "/opt/env/bin/python", "python")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))


def metadata(name: str | None = None, language: str | None = None, info: str | None = None) -> dict[str, Any]:
    spec = {key: value for key, value in (("name", name), ("language", language)) if value}
    return {"metadata": {"kernelspec": spec, **({"language_info": {"name": info}} if info else {})}}


PYTHON = [
    {},
    {"metadata": None},
    {"metadata": {"kernelspec": "x", "language_info": ["R"]}},
    metadata("python3", "python", "python"),
    metadata("python3", "Python"),
    metadata(info="ipython"),
    metadata("unknown"),
    metadata("here"),
    metadata("../ir"),
]


@pytest.mark.parametrize("page", PYTHON)
def test_notebooks_in_python_pass(page: dict[str, Any]) -> None:
    check_language(page, "mine.ipynb")


@pytest.mark.parametrize(
    ("page", "says"),
    [
        (metadata("ir", "R"), "a notebook in R (kernel 'ir')"),
        (metadata("ir"), "a notebook in R (kernel 'ir')"),  # the installed kernel says it
        (metadata("julia-1.10", "julia", "julia"), "a notebook in julia (kernel 'julia-1.10')"),
        (metadata(info="R"), "a notebook in R; jobs run notebooks in Python only"),
    ],
)
def test_other_languages_are_refused_by_name(
    page: dict[str, Any], says: str, workspace: wb.Workspace, tmp_path: Path
) -> None:
    (tmp_path / "mine.ipynb").write_text(
        json.dumps({"nbformat": 4, "nbformat_minor": 5, "cells": [], **page})
    )
    with pytest.raises(wb.BadInput) as raised:
        workspace.submit_notebook(tmp_path / "mine.ipynb")
    assert f"mine.ipynb is {says}" in raised.value.message
    assert raised.value.hint
    assert workspace.jobs() == []


@pytest.mark.parametrize(
    ("page", "says"),
    [
        (metadata("python3", "python"), None),
        (metadata(), None),
        (metadata("here", "python"), None),
        (metadata("elsewhere", "python"), "kernel 'elsewhere'; as a job it runs in Python"),
        (
            metadata("my-env", "python"),
            "kernel 'my-env', which is not installed here; as a job it runs in Python",
        ),
    ],
)
def test_another_environment_is_said(page: dict[str, Any], says: str | None) -> None:
    note = kernel_note(page)
    assert (says in note and sys.executable in note) if says else note == ""
