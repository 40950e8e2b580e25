"""The backbone of a predecessor's checkpoint as an encoder: the model it came from, or its own weights."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.vlm_quantization.towers import weights
from workbench import BadInput, CorruptFile

if TYPE_CHECKING:
    from torch import Tensor

    from adapters.vlm_quantization.encoding.lightning import LightningCheckpoint

#: Buffers that transformers of some versions save, and of others computes.
_COMPUTED = ("position_ids",)


def encoder_of(read: LightningCheckpoint, model: str, encoders: Path) -> tuple[str, str]:
    """Return the name of an encoder with a checkpoint's backbone, and a sentence about where it is.

    If the backbone's weights are those of the model, it is the model itself. Otherwise a folder is written
    with the model's configuration, processor and tokenizer, and the checkpoint's weights.

    Parameters
    ----------
    read : LightningCheckpoint
    model : str
        Folder of the transformers model that the checkpoint was trained from, or its name on the hub.
    encoders : Path
        Where a folder is written if it is needed, named after the checkpoint and its weights.

    Raises
    ------
    BadInput
        The model cannot be found.
    CorruptFile
        The checkpoint's backbone is not one of this model.
    """
    folder, _ = weights.find_folder(model)
    weights.check_folder(folder)
    stored = _stored(folder)
    _check_same_model(read, model, stored)
    if all(_equal(read.backbone[name], tensor) for name, tensor in _tensors(folder, stored)):
        return model, f"The backbone's weights are those of {model}: it was frozen."
    digest = _digest(read.backbone)
    made = encoders / f"{read.path.stem}-{digest[:12]}"
    if not made.is_dir():
        _write(read, folder, made)
    return str(made.resolve()), f"The backbone was trained too: its weights are in {made}."


def _stored(folder: Path) -> dict[str, tuple[Path, tuple[int, ...]]]:
    """Return file and shape of each tensor of a model's folder, by name."""
    from safetensors import safe_open

    out: dict[str, tuple[Path, tuple[int, ...]]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as part:
                out |= {name: (file, tuple(part.get_slice(name).get_shape())) for name in part.keys()}  # noqa: SIM118
        except Exception as error:  # safetensors has a type of its own, and several others
            raise BadInput(f"{file} cannot be read: {error}") from None
    return out


def _tensors(
    folder: Path, stored: Mapping[str, tuple[Path, tuple[int, ...]]]
) -> Iterator[tuple[str, Tensor]]:
    from safetensors import safe_open

    for file in sorted({file for file, _ in stored.values()}):
        with safe_open(file, framework="pt") as part:
            for name in part.keys():  # noqa: SIM118  (not a mapping)
                if not name.endswith(_COMPUTED):
                    yield name, part.get_tensor(name)


def _check_same_model(
    read: LightningCheckpoint, model: str, stored: Mapping[str, tuple[Path, tuple[int, ...]]]
) -> None:
    hint = f"Give the model that it was trained from as the encoder; the file names {read.model_name!r}."
    ours = {name for name in stored if not name.endswith(_COMPUTED)}
    theirs = {name for name in read.backbone if not name.endswith(_COMPUTED)}
    for names, what in ((ours - theirs, "lacks"), (theirs - ours, "has more than")):
        if names:
            raise CorruptFile(
                read.path,
                f"its backbone {what} the {len(ours):,} tensors of {model}: {', '.join(sorted(names)[:3])}"
                f"{' …' if len(names) > 3 else ''}",
                hint=hint,
            )
    for name in sorted(ours):
        shape = tuple(read.backbone[name].shape)
        if shape != stored[name][1]:
            raise CorruptFile(
                read.path,
                f"backbone.{name} has shape {shape}; that of {model} has {stored[name][1]}",
                hint=hint,
            )
        if not bool(read.backbone[name].isfinite().all()):
            raise CorruptFile(read.path, f"backbone.{name} holds values that are not finite numbers")


def _equal(one: Tensor, other: Tensor) -> bool:
    import torch

    return torch.equal(one.float(), other.float())


def _digest(backbone: Mapping[str, Tensor]) -> str:
    import hashlib

    digest = hashlib.sha256()
    for name in sorted(backbone):
        digest.update(name.encode() + b"\0" + backbone[name].detach().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _write(read: LightningCheckpoint, folder: Path, made: Path) -> None:
    """Write an encoder's folder; it appears whole or not at all."""
    from safetensors.torch import save_file

    made.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=made.parent, prefix=".") as temporary:
        work = Path(temporary, "encoder")
        work.mkdir()
        for file in folder.iterdir():
            kept = file.suffix in weights.KINDS and file.suffix != ".safetensors"
            if kept and not file.name.endswith(".index.json") and file.is_file():
                shutil.copyfile(file, work / file.name)
        whole: dict[str, Any] = {
            name: tensor.detach().float().contiguous().clone()
            for name, tensor in read.backbone.items()
            if not name.endswith(_COMPUTED)
        }
        save_file(whole, work / "model.safetensors", {"format": "pt"})
        work.rename(made)
