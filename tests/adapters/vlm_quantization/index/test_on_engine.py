"""A build on an engine (adapters.vlm_quantization.index.on_engine) has the bytes of one in this process."""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

import workbench as wb
from adapters.vlm_quantization.adapter import VlmQuantization
from adapters.vlm_quantization.dummy import write_dummy_collection
from adapters.vlm_quantization.encoding.fitted import fit_codes, open_model
from adapters.vlm_quantization.encoding.known_pictures import KnownPictures
from adapters.vlm_quantization.index import shards
from adapters.vlm_quantization.index.build import IndexReport, build_index
from adapters.vlm_quantization.index.format import read_manifest
from adapters.vlm_quantization.index.portable import EncoderFile
from adapters.vlm_quantization.options import QuickIndexOptions
from adapters.vlm_quantization.towers.dummy import DummyVisionModel
from adapters.vlm_quantization.towers.pair import EncoderPair
from tests.adapters.vlm_quantization import shapes
from workbench.engine.child import perform
from workbench.engine.engine import Engine
from workbench.engine.task import Outcome, Task


class Here(Engine):
    """Performs tasks in this process, as a worker would: after pickling."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self._open: list[Task] = []

    def submit(self, task: Task) -> None:
        self._open.append(pickle.loads(pickle.dumps(task)))  # noqa: S301  # our own

    def as_completed(self, seconds: float) -> Iterator[Outcome]:
        while self._open:
            outcome = perform(self._open.pop())  # the last one first: their order does not matter
            self.made += [outcome.name] if outcome.ending == "done" else []
            yield outcome

    def cancel(self) -> None:
        self._open.clear()

    def close(self) -> None:
        raise AssertionError("an engine that was handed in stays open")

    workers = 1


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Codes that are fitted to noise: a model that every process can open."""
    file = tmp_path_factory.mktemp("model") / "fitted.safetensors"
    tower = DummyVisionModel()
    features = np.random.default_rng(0).standard_normal((40, tower.dim), np.float32)
    fit_codes(file, EncoderPair("random", tower), features)
    return file


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_ITEMS", 16)


def build(folder: Path, model_file: Path, **given: Any) -> IndexReport:
    return build_index(
        folder,
        shapes.collection(),
        KnownPictures(open_model(model_file)),
        name="shapes",
        model_file=model_file,
        captions=False,
        batch_size=8,
        **given,
    )


def contents(report: IndexReport) -> dict[str, str]:
    """The digest of every file but the manifest, which has the time."""
    return {name: seal.sha256 for name, seal in read_manifest(report.path).files.items()}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, model_file: Path) -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_ITEMS", 16)
        return contents(build(tmp_path_factory.mktemp("alone"), model_file))


def test_an_engine_makes_the_same_bytes(tmp_path: Path, model_file: Path, alone: dict[str, str]) -> None:
    engine = Here()
    seen: list[tuple[float, float | None, str]] = []
    report = build(tmp_path, model_file, engine=engine, progress=lambda *given: seen.append(given))
    assert contents(report) == alone
    assert sorted(engine.made) == ["shard 1 of images", "shard 2 of images", "shard 3 of images"]
    assert (48, 48, "encoding: 3 of 3 parts, 1 worker") in seen
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]


def test_so_do_processes_of_their_own(tmp_path: Path, model_file: Path, alone: dict[str, str]) -> None:
    assert contents(build(tmp_path, model_file, engine="local:2")) == alone


class Killed(Exception):
    pass


@pytest.mark.parametrize("stored", [False, True])
def test_finished_shards_are_not_made_again(
    tmp_path: Path, model_file: Path, alone: dict[str, str], stored: bool
) -> None:
    storage = f"memory://{uuid.uuid4().hex}/shards" if stored else ""

    def stop(done: float, total: float | None, message: str) -> None:
        if done >= 16:
            raise Killed

    first, second = Here(), Here()
    with pytest.raises(Killed):
        build(tmp_path, model_file, engine=first, storage=storage, progress=stop)
    seen: list[str] = []
    report = build(
        tmp_path, model_file, engine=second, storage=storage, progress=lambda d, t, words: seen.append(words)
    )
    assert contents(report) == alone
    assert sorted(first.made + second.made) == [f"shard {n} of images" for n in (1, 2, 3)]
    assert any("1 of 3 parts" in words for words in seen)
    if stored:
        assert fsspec.filesystem("memory").find(storage) == []  # not needed any more


def test_cancelling_reaches_the_engine(tmp_path: Path, model_file: Path) -> None:
    class Watched(Here):
        cancelled = 0

        def cancel(self) -> None:
            self.cancelled += 1

    def stop(done: float, total: float | None, message: str) -> None:
        raise wb.JobCancelled(1, "enough")

    engine = Watched()
    with pytest.raises(wb.JobCancelled):
        build(tmp_path, model_file, engine=engine, progress=stop)
    assert engine.cancelled == 1
    assert not (tmp_path / "shapes").exists()


def test_another_model_on_a_worker_is_refused(tmp_path: Path, model_file: Path) -> None:
    with pytest.raises(wb.BadInput, match="is another model on a worker than in this build"):
        EncoderFile(str(model_file), "vlm_quantization", fingerprint="another")()
    assert EncoderFile(str(model_file), "vlm_quantization", device="cpu")().dim


def test_what_an_engine_needs_is_said(tmp_path: Path, model_file: Path) -> None:
    encoder = KnownPictures(open_model(model_file))
    with pytest.raises(wb.BadInput, match="needs the file of the model"):
        build_index(tmp_path, shapes.collection(), encoder, name="x", captions=False, engine="local:2")
    with pytest.raises(wb.BadInput, match="relative path"):
        build(tmp_path, model_file, engine="local:2", storage="here")
    with pytest.raises(wb.BadInput, match="is not the address of an engine"):
        build(tmp_path, model_file, engine="nowhere")


@pytest.mark.parametrize(
    ("options", "field", "words"),
    [
        ({"engine": "nowhere"}, "engine", "is not the address of an engine. Give 'local'"),
        ({"engine": "dask://10.0.0.5:8786"}, "engine", "without TLS anybody on the way could run code"),
        (
            {"engine": "local:2", "engine_storage": "nosuch://x"},
            "engine_storage",
            "no file system 'nosuch://'",
        ),
        ({"engine_storage": "/tmp"}, "engine_storage", "is for an engine, and none is named"),  # noqa: S108
    ],
)
def test_a_job_with_an_engine_that_cannot_work_is_refused_before_it_starts(
    workspace: wb.Workspace, options: dict[str, str], field: str, words: str
) -> None:
    with pytest.raises(wb.BadOptions) as refused:
        workspace.submit("index_build", options={"collection": "emoji", "codes": "itq", **options})
    assert any(name == field and words in problem for name, problem in refused.value.problems)


def test_a_job_runs_on_an_engine_and_its_codes_are_those_of_a_job_alone(
    workspace: wb.Workspace, tmp_path: Path
) -> None:
    """Through the options, as a person names them."""
    write_dummy_collection(tmp_path)
    codes = []
    for name, engine in (("alone", ""), ("together", "local:2")):
        options = VlmQuantization().quick_index(
            str(tmp_path / "pictures"), QuickIndexOptions(name=name, encoder="random", engine=engine)
        )
        with wb.job_scope("index_build", "vlm_quantization", dict(options), workspace=workspace) as job:
            job.finish(job.adapter.build_index(job.options, job))
        index = workspace.path / "indexes" / name
        seals = read_manifest(index).files
        codes.append({file: seal.sha256 for file, seal in seals.items() if "codes" in file})
    assert codes[0] == codes[1] != {}
