"""A picture-text family that is not ours, made of our parts, as ``workbench new adapter`` writes it."""

from __future__ import annotations

import importlib
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import workbench as wb
from adapters.vlm_quantization import adapter as ours
from adapters.vlm_quantization.codes import Encoded
from adapters.vlm_quantization.data.sources import open_collection
from adapters.vlm_quantization.data.splits import make_splits
from adapters.vlm_quantization.dummy import COLOURS, SHAPES, write_dummy_collection
from adapters.vlm_quantization.evaluate.seeds import refuse_other_data
from adapters.vlm_quantization.evaluate.subject import FromPictures
from adapters.vlm_quantization.family import PictureTextFamily
from tests.adapters.vlm_quantization import shapes
from workbench import cli
from workbench.adapter.scaffold import write_adapter
from workbench.testing import AdapterContract, Outcome

NAME = "look_alike"


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PictureTextFamily]:
    """The family as it is written, imported from its folder."""
    folder, files = write_adapter(NAME, tmp_path_factory.mktemp("new"), "vlm_quantization")
    assert files == [
        *("README.md", f"{NAME}/__init__.py", f"{NAME}/adapter.py", f"{NAME}/py.typed"),
        *("pyproject.toml", "tests/test_adapter.py"),
    ]
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module(NAME).adapter
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.split(".")[0] == NAME]:
            del sys.modules[name]


class TestFamily(AdapterContract):
    """It trains, evaluates, indexes and searches as any adapter must."""

    query = "빨간 원"

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _adapter(cls, family: PictureTextFamily) -> None:
        cls.adapter = family

    @classmethod
    def options(cls, folder: Path) -> dict[str, dict[str, Any]]:
        return {"train": {"collection": str(write_dummy_collection(folder / "shapes", 48))}}

    def test_no_part_is_skipped(self, outcome: Outcome) -> None:
        assert outcome.adapter.job_types() == ["train", "eval", "index_build"]
        assert outcome.searcher.by_text("빨간 원", k=3).hits

    def test_the_evaluation_reports_every_length_beside_the_float_and_baselines(
        self, outcome: Outcome
    ) -> None:
        result = outcome.results["eval"]
        for name in ("8", "128", "float"):
            assert f"t2i/R@10@{name}" in result.metrics
        assert any("/ITQ/" in name for name in result.metrics)
        assert not any("/float query/" in name for name in result.metrics)  # its margins are unknown
        titles = [view.title for view in result.views]
        assert any(title.startswith("Code health") for title in titles)
        card = next(view for view in result.views if view.title == "Run card")
        assert {"name": "Model", "value": NAME} in card.data["rows"]

    def test_it_finds_what_it_was_trained_on(self, outcome: Outcome) -> None:
        """48 pictures, each of another colour or shape: by chance, one in eight is in the first six."""
        names = [f"{colour} {shape}" for colour, _, _ in COLOURS for shape, _, _ in SHAPES]
        found = [name in {hit.caption for hit in outcome.searcher.by_text(name, k=6).hits} for name in names]
        assert np.mean(found) > 0.4

    def test_its_index_is_its_own(self, outcome: Outcome) -> None:
        assert outcome.searcher.adapter is outcome.adapter
        with pytest.raises(wb.CorruptFile, match=f"of adapter '{NAME}'"):
            ours.load_index(outcome.workspace.indexes / "pictures")

    def test_its_runs_are_its_own(self, outcome: Outcome) -> None:
        run = outcome.workspace.run(outcome.results["train"].made["run"])
        problems = dict(ours.find_problems("eval", ours.options("eval")(run=run.id), outcome.workspace))
        assert f"was trained by adapter '{NAME}'" in problems["run"]
        problems = dict(ours.find_problems("eval", ours.options("eval")(), outcome.workspace))
        assert "no run has a checkpoint" in problems["run"]

    def test_other_data_than_it_was_trained_with_is_refused(self, outcome: Outcome, tmp_path: Path) -> None:
        run = outcome.workspace.run(outcome.results["train"].made["run"])
        given = Path(run.config["collection"])
        (tmp_path / "fewer.jsonl").write_text("".join(given.read_text().splitlines(keepends=True)[5:]))
        model = outcome.adapter.load_model(run.checkpoint("best.safetensors"))
        for path, refused in ((given, False), (given.parent / "fewer.jsonl", True)):
            if refused:
                shutil.copy(tmp_path / "fewer.jsonl", path)
            collection = open_collection(path)
            splits = make_splits(collection, run.config["split_seed"])
            with pytest.raises(wb.BadInput, match="trained on other data") if refused else nullcontext():
                refuse_other_data(run, "best", outcome.adapter.origin(run, model), splits, collection)

    def test_a_checkpoint_of_another_kind_is_refused(self, outcome: Outcome, tmp_path: Path) -> None:
        broken = tmp_path / "best.safetensors"
        broken.write_bytes(b"no tensors")
        with pytest.raises(wb.CorruptFile, match=f"not a checkpoint of {NAME}"):
            outcome.adapter.load_model(broken)


def test_it_is_short(family: PictureTextFamily) -> None:
    lines = Path(sys.modules[f"{NAME}.adapter"].__file__ or "").read_text().splitlines()
    assert sum(bool(line.strip()) for line in lines) <= 60


def test_an_encoder_of_other_lengths_is_not_evaluated(family: PictureTextFamily) -> None:
    class Short:
        name, bits = "short", (8, 16)

    with pytest.raises(
        wb.BadInput, match=r"codes of \[8, 16\] bits; an evaluation reports \[8, 16, 32, 64, 128\]"
    ):
        FromPictures(Short(), shapes.collection())  # type: ignore[arg-type]


def test_a_picture_is_encoded_once() -> None:
    collection, seen = shapes.collection(), []

    class Counting:
        name, dim, bits, fingerprint = "counting", 4, (8, 16, 32, 64, 128), "f"

        def encode_images(self, images: Any) -> Any:
            seen.append(len(images))
            return Encoded(np.zeros((len(images), 16), np.uint8), np.eye(len(images), 4, dtype=np.float32))

        encode_texts = encode_images

    subject = FromPictures(Counting(), collection)
    assert subject.pictures(np.array([3, 1])).features.shape == (2, 4)
    again = subject.pictures(np.array([1, 5, 3]))
    assert seen == [2, 1]
    assert again.features[[2, 0]].tolist() == np.eye(2, 4).tolist()


@pytest.mark.parametrize(
    ("parts_of", "message"),
    [
        ("toy", "adapter 'toy' has no starter files.*Adapters that have some: vlm_quantization"),
        ("nobody", "nobody"),
    ],
)
def test_an_adapter_without_starter_files_is_refused(
    toy: Any, tmp_path: Path, parts_of: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["new", "adapter", "another", "--into", str(tmp_path), "--from", parts_of]) != 0
    assert re.search(message, capsys.readouterr().err.replace("\n", " "))
    assert not list(tmp_path.iterdir())
