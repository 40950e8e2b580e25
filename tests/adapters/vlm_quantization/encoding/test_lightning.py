"""The predecessor's checkpoints: equal to torch's own modules, and nothing in a file is trusted."""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import workbench as wb
from adapters.vlm_quantization.encoding import lightning
from adapters.vlm_quantization.encoding.lightning import looks_like_one, read_lightning
from adapters.vlm_quantization.encoding.peer_head import gelu
from tests.adapters.vlm_quantization.encoding.lightning_files import LENGTHS, Peer, content, peer, write


def features(n: int = 200, width: int = 12) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(1)) * 3


@pytest.mark.parametrize("lengths", [LENGTHS, (16, 32, 64, 128), (128,), (8, 128, 256)])
def test_outputs_and_codes_are_those_of_torch(tmp_path: Path, lengths: tuple[int, ...]) -> None:
    model = peer(lengths=lengths)
    read = read_lightning(write(tmp_path / "last.ckpt", model))
    assert read.lengths == tuple(length for length in lengths if length in (8, 16, 32, 64, 128))
    assert read.ignored == tuple(length for length in lengths if length in (48, 256))
    assert (read.model_name, read.hidden, read.step) == ("google/siglip2-base-patch16-224", 20, 1200)
    x = features()
    for side, head in (("image", model.image_hash), ("text", model.text_hash)):
        with torch.no_grad():
            raw, margins = head.hash_head(x), head.margins(x)
        outputs = read.heads[side].outputs(x.numpy())
        assert outputs.dtype == np.float32
        np.testing.assert_allclose(outputs, raw[:, :128].numpy(), atol=1e-5)
        for length in read.lengths:
            mine, theirs = read.heads[side].codes(x.numpy(), length), margins[length].numpy()
            assert mine.shape == (len(x), length)
            clear = np.abs(theirs) > 1e-5  # beside the threshold, rounding decides
            assert clear.mean() > 0.999
            np.testing.assert_array_equal(mine[clear], (theirs >= 0)[clear])


def test_gelu_is_the_exact_one() -> None:
    x = np.linspace(-8, 8, 2001, dtype=np.float32)
    np.testing.assert_allclose(gelu(x), nn.GELU()(torch.from_numpy(x)).numpy(), atol=1e-6)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_read(tmp_path: Path, kind: torch.dtype) -> None:
    model = peer().to(kind)
    read = read_lightning(write(tmp_path / "a.ckpt", model))
    expected = model.image_hash.hash_head[0].weight.detach().float().numpy()
    np.testing.assert_array_equal(read.heads["image"].tensors["in.weight"], expected)


def test_the_backbone_is_there_by_its_own_names_and_is_not_copied(tmp_path: Path) -> None:
    weights = {"vision_model.a.weight": torch.randn(3, 4), "logit_scale": torch.ones(1)}
    read = read_lightning(write(tmp_path / "a.ckpt", peer(), weights))
    assert set(read.backbone) == set(weights)
    assert torch.equal(read.backbone["vision_model.a.weight"], weights["vision_model.a.weight"])


def test_no_list_of_lengths_means_the_predecessors_default(tmp_path: Path) -> None:
    assert read_lightning(write(tmp_path / "a.ckpt", peer(), bit_list=None)).lengths == (8, 16, 32, 64, 128)


class Evil:
    """Leaves a file where it was executed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.system, (f"touch {self.path}",)


def refused(path: Path) -> str:
    with pytest.raises(wb.CorruptFile) as raised:
        read_lightning(path)
    return raised.value.reason


def test_a_pickle_that_would_run_something_is_refused_unexecuted_with_what_it_names(tmp_path: Path) -> None:
    trace = tmp_path / "was-here"
    torch.save({**content(peer()), "callbacks": {"x": Evil(trace)}}, tmp_path / "evil.ckpt")
    assert "posix.system" in refused(tmp_path / "evil.ckpt")
    assert not trace.exists()
    torch.save({**content(peer()), "model": nn.Linear(2, 2)}, tmp_path / "module.ckpt")
    with pytest.raises(
        wb.CorruptFile, match=r"torch\.nn\.modules\.linear\.Linear.*Nothing of it was exec"
    ) as raised:
        read_lightning(tmp_path / "module.ckpt")
    assert "torch.save" in raised.value.hint


def _without(key: str) -> Callable[[dict[str, Any]], Any]:
    def change(data: dict[str, Any]) -> None:
        del data["state_dict"][key]

    return change


def _with(key: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    def change(data: dict[str, Any]) -> None:
        data["state_dict"][key] = value

    return change


def _setting(key: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    def change(data: dict[str, Any]) -> None:
        data["hyper_parameters"][key] = value

    return change


_IN = "image_hash.hash_head.0.weight"

WRONG: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (_without(_IN), f"{_IN} is missing"),
    (_without("text_hash.batch_norms.2.running_var"), "text_hash.batch_norms.2.running_var is missing"),
    (_without("backbone.logit_scale"), "no weights of the backbone"),
    (_with(_IN, torch.zeros(20)), "has shape"),
    (_with(_IN, torch.zeros(21, 12)), r"float32 \(21, 12\); it must be floating point of shape \(20, 12\)"),
    (_with("text_hash.hash_head.0.weight", torch.zeros(20, 13)), "width 12 and 13"),
    (_with("image_hash.hash_head.4.bias", torch.zeros(128, dtype=torch.int64)), "int64"),
    (_with(_IN, torch.full((20, 12), float("nan"))), "not finite"),
    (_with("image_hash.batch_norms.0.running_var", -torch.ones(8)), "negative"),
    (_with(_IN, torch.zeros(1).expand(10**6, 10**6)), r"claims shape \(1000000, 1000000\), more than"),
    (_with("backbone.w", torch.zeros(1).expand(10**6, 10**6)), "more than the file holds"),
    (_with(_IN, torch.zeros(2, 2).to_sparse()), "dense tensor"),
    (_with(_IN, "a text"), "dense tensor, not str"),
    (_with(7, torch.zeros(1)), "not text"),  # type: ignore[arg-type]
    (_with("image_hash.stem.0.weight", torch.zeros(1)), "projection of their own for each length"),
    (_with("image_adapter.net.0.weight", torch.zeros(1)), "parts that are unknown here.*image_adapter.net.0"),
    (_with("text_hash.hash_head.2.weight", torch.zeros(1)), "unknown here.*text_hash.hash_head.2"),
    (_setting("bit_list", [8, 16, 64]), "8, 16, 64; an index needs 128"),
    (_setting("bit_list", "128"), "must be a list"),
    (_setting("bit_list", [128, 128]), "repeats"),
    (_setting("bit_list", [True, 128]), "True"),
    (_setting("bit_list", [10**9, 128]), "1000000000"),
    (_setting("bit_list", [16, 128]), r"batch_norms.0.weight is float32 \(8,\)"),
    (_setting("hidden_dim", 10**9), "hidden_dim must be 1 to 65,536"),
    (_setting("hidden_dim", 21), r"\(20, 12\); it must be"),
    (_setting("model_name", None), "model_name"),
    (lambda data: data.pop("hyper_parameters"), "no hyper_parameters"),
    (lambda data: data.pop("state_dict"), r"no state_dict in it, but a dict of \d+: epoch, global_step"),
]


@pytest.mark.parametrize(("change", "says"), WRONG)
def test_what_is_missing_or_does_not_fit_is_said_by_name(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], says: str
) -> None:
    data = content(peer())
    change(data)
    torch.save(data, tmp_path / "a.ckpt")
    with pytest.raises(wb.CorruptFile, match=says):
        read_lightning(tmp_path / "a.ckpt")


def test_files_that_are_something_else_say_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no such file" in refused(tmp_path / "missing.ckpt")
    torch.save([1, 2], tmp_path / "list.ckpt")
    assert "but list" in refused(tmp_path / "list.ckpt")
    torch.save(peer().state_dict(), tmp_path / "weights.ckpt")
    assert "image_hash.hash_head.0.weight" in refused(tmp_path / "weights.ckpt")
    (tmp_path / "text.ckpt").write_text("hello")
    assert "not a file that torch.save wrote" in refused(tmp_path / "text.ckpt")
    torch.save(content(peer()), tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    assert "format from before 2020" in refused(tmp_path / "old.ckpt")
    with zipfile.ZipFile(tmp_path / "zip.ckpt", "w") as archive:
        archive.writestr("a/readme.txt", "x")
    assert "torch cannot read it" in refused(tmp_path / "zip.ckpt")
    monkeypatch.setattr(lightning, "MAX_BYTES", 100)
    assert "at most 100" in refused(tmp_path / "weights.ckpt")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    data = write(tmp_path / "whole.ckpt", peer()).read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(data[: int(len(data) * share)])
    assert "truncated" in refused(tmp_path / "cut.ckpt")


def test_damage_inside_is_an_error_or_harmless(tmp_path: Path) -> None:
    data = bytearray(write(tmp_path / "whole.ckpt", peer()).read_bytes())
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(data), 60):
        hurt = bytearray(data)
        hurt[place] ^= 0xFF
        (tmp_path / "hurt.ckpt").write_bytes(hurt)
        with contextlib.suppress(wb.CorruptFile):  # any other error fails the test
            read_lightning(tmp_path / "hurt.ckpt")


def test_a_compressed_archive_that_would_expand_is_refused(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.ckpt", peer())
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(tmp_path / "bomb.ckpt", "w") as out:
        for part in source.infolist():
            data = source.read(part)
            kind = zipfile.ZIP_DEFLATED if part.filename.endswith("data.pkl") else zipfile.ZIP_STORED
            out.writestr(part.filename, data, kind)
    assert "is compressed" in refused(tmp_path / "bomb.ckpt")


def test_a_description_that_is_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lightning, "MAX_PICKLE_BYTES", 1_000)
    assert "at most 1,000" in refused(write(tmp_path / "a.ckpt", peer()))


def test_the_look_before_a_job_reads_nothing(tmp_path: Path) -> None:
    assert looks_like_one(write(tmp_path / "a.ckpt", peer())) == ""
    assert looks_like_one(tmp_path / "b.ckpt") == "no such file"
    assert isinstance(peer(), Peer)
