"""What the process that holds an index of this family loads: the model and the codes, and no database."""

import subprocess
import sys

import workbench as wb
from adapters.vlm_quantization.dummy import write_dummy_checkpoint, write_dummy_collection

PROGRAM = """
import sys
from pathlib import Path
from workbench.search.service.holder import AdapterDesk, IndexDesk
desk = AdapterDesk("vlm_quantization")
assert "search" in desk.open()["options"]
assert desk.answer({"op": "check", "type": "eval", "options": {}})["options"]
print(*[name for name in ("sqlalchemy", "sqlmodel", "alembic", "workbench.store", "torch", "faiss", "PIL",
      "matplotlib") if name in sys.modules])
desk = IndexDesk(Path(sys.argv[1]), "shapes")
assert desk.open()["about"]["count"]
assert desk.answer({"by": "text", "text": "red", "k": 2})["hits"]
print(*[name for name in ("sqlalchemy", "sqlmodel", "alembic", "workbench.store", "torch", "matplotlib")
      if name in sys.modules])
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
        [sys.executable, "-c", PROGRAM, indexes], check=True, capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "\n\n"
