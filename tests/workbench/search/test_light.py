"""Each process of a search loads what it needs: held by the modules of the real processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import TOY
from tests.workbench.conftest import install, make_index, on_path
from workbench.publish import page as voila
from workbench.search.client import SearchClient

DATABASE = {
    "sqlalchemy",
    "sqlmodel",
    "alembic",
    "sqlite3",
    "pysqlite3",
    "workbench.store",
    "workbench.workspace",
}
HEAVY = {"torch", "numba", "numpy", "matplotlib", "pandas", "papermill", "jupyter_server", "httpx"}

#: The toy, telling which modules its process has: as a hit of a search, and as an option.
TELLING = """

import sys
from pydantic import Field

class Told(Options):
    modules: list[str] = Field(default_factory=lambda: sorted(sys.modules))

class Telling(Toy):
    name = "telling"
    def options(self, task):
        return super().options(task) if task == "search" else Told
    def search_by_text(self, index, query, k, options):
        super().search_by_text(index, query, k, options)
        return wb.SearchResult([wb.Hit(name, 1.0) for name in sorted(sys.modules)])

adapter = Telling()
"""


@pytest.fixture
def client(searched: Path, tmp_path: Path) -> Iterator[SearchClient]:
    folder = tmp_path / "packages"
    folder.mkdir()
    install(folder, "telling", TOY.read_text(encoding="utf-8") + TELLING)
    make_index(searched, "words", adapter="telling")
    with on_path(folder):
        yield SearchClient(searched, patience=300)


def test_the_process_that_holds_an_index_has_no_database(client: SearchClient) -> None:
    loaded = {hit.id for hit in client.open_search("words").by_text("dog", 1)}
    assert "telling_adapter" in loaded
    assert loaded & (DATABASE | HEAVY) == set()


def test_the_process_that_checks_options_has_no_database(client: SearchClient) -> None:
    assert client.ask({"op": "adapter", "adapter": "telling"})["job_types"]
    told = client.ask({"op": "check", "adapter": "telling", "type": "eval", "options": {"k": 7}})
    loaded = set(told["options"]["modules"])
    assert told["options"]["k"] == 7
    assert "telling_adapter" in loaded
    assert loaded & (DATABASE | HEAVY) == set()


def loaded_by(program: str) -> set[str]:
    """Return the modules of a process of its own after a program."""
    program += "\nimport sys; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module",
    [
        "workbench.adapter.options",
        "workbench.adapter.registry",
        "workbench.search.client",
        "workbench.search.service.__main__",
        "workbench.search.service.holder",
        "workbench.panels.search.page",
        "workbench.publish.page",
    ],
)
def test_what_a_search_is_made_of_imports_no_database(module: str) -> None:
    loaded = loaded_by(f"import {module}")
    assert module in loaded
    assert loaded & (DATABASE | HEAVY) - {"httpx"} == set()


def test_the_kernel_of_a_published_page_is_a_thin_client(
    client: SearchClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nbformat

    cells = nbformat.read(voila.search_notebook(), as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    for name, value in voila.environment(client.home, "words", {}).items():
        monkeypatch.setenv(name, value)
    # The last line of the notebook is the page.
    lines = code.strip().splitlines()
    lines[-1] = f"page = {lines[-1]}"
    program = "\n".join([*lines, "assert 'id=\"wb-setup\"' in page.data"])
    loaded = loaded_by(program)
    assert "workbench.panels.search.panel" in loaded
    assert loaded & (DATABASE | HEAVY) == set()
    assert not {name for name in loaded if name.startswith(("telling_adapter", "adapters."))}
