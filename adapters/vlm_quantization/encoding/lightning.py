"""Checkpoints of the predecessor of this adapter: PyTorch Lightning files with one hash head per modality.

A head is Linear → LayerNorm → GELU → dropout → Linear, and each code length has a BatchNorm of its own: the
code of length B is the sign of that BatchNorm over the first B outputs. So a short code need not be a prefix
of the long one; see :mod:`adapters.vlm_quantization.encoding.refold`.

Such a file is a pickle. It is read with ``weights_only=True``, after a look at what it names: one that would
call anything but torch's own constructors of tensors is refused, and nothing of it is executed. Tensors are
memory-mapped, and each one's name, type, shape and values are checked before it is used.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import numpy as np

from adapters.vlm_quantization.codes import CODE_BITS, CODE_LENGTHS
from adapters.vlm_quantization.encoding.peer_head import EPSILON, Norm, head_outputs, signs
from workbench import CorruptFile

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

#: A larger file is refused before it is opened. One of the largest SigLIP 2 models with the state of its
#: optimizer has about 14 GB.
MAX_BYTES = 32 * 2**30


#: The same for the part of the file that describes the tensors; that of the largest models has about 1 MB.
MAX_PICKLE_BYTES = 64 * 2**20


#: Code lengths of a file that names none.
DEFAULT_LENGTHS = (8, 16, 32, 48, 64, 128)


_SIDES = {"image": "image_hash", "text": "text_hash"}


_BACKBONE = "backbone."


#: Parts of a head, and parts of the model that training alone uses.
_PARTS, _PASSED_OVER = ("hash_head.0.", "hash_head.1.", "hash_head.4.", "batch_norms."), ("loss",)


#: How to make a file that can be read, from one that cannot.
_CONVERT = (
    "Where you trust its origin, load it with torch.load(path, weights_only=False), and save what is needed: "
    "torch.save({'state_dict': …, 'hyper_parameters': …}, path)."
)


@dataclass(frozen=True)
class Head:
    """The head of one modality; all arrays are float32.

    Attributes
    ----------
    tensors : dict of str to ndarray
        ``in.weight`` (hidden, width), ``in.bias`` (hidden,), ``norm.weight`` and ``norm.bias`` (hidden,),
        ``out.weight`` (128, hidden), ``out.bias`` (128,).
    norms : dict of int to (scale, shift)
        By code length: the BatchNorm as ``output * scale + shift``, each (length,).
    """

    tensors: Mapping[str, NDArray[np.float32]]
    norms: Mapping[int, Norm]

    @property
    def width(self) -> int:
        """Width of the features that it takes."""
        return int(self.tensors["in.weight"].shape[1])

    def outputs(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what enters the BatchNorms, float32 (n, 128), for the backbone's features (n, width)."""
        return head_outputs(self.tensors, features)

    def codes(self, features: NDArray[np.float32], length: int) -> NDArray[np.bool_]:
        """Return the code of one length, bool (n, length), by the BatchNorm of that length."""
        return signs(self.outputs(features), self.norms[length])


@dataclass(frozen=True)
class LightningCheckpoint:
    """A checked file.

    Attributes
    ----------
    path : Path
    model_name : str
        The backbone, as transformers names it.
    lengths : tuple of int
        Code lengths that are of use here: those of :data:`~adapters.vlm_quantization.codes.CODE_LENGTHS`.
    ignored : tuple of int
        Other code lengths in the file.
    hidden : int
        Width of the heads' hidden layer.
    heads : dict of str to Head
        ``"image"`` and ``"text"``.
    backbone : dict of str to Tensor
        The backbone's weights by their names in transformers; memory-mapped.
    step : int
        Training steps that it has had; 0 if unknown.
    """

    path: Path
    model_name: str
    lengths: tuple[int, ...]
    ignored: tuple[int, ...]
    hidden: int
    heads: Mapping[str, Head]
    backbone: Mapping[str, Tensor]
    step: int = 0


#: What a damaged or hostile file raises has no common class.
_BROKEN = (
    *(RuntimeError, UnpicklingError, EOFError, OSError, MemoryError, RecursionError, zipfile.BadZipFile),
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, struct.error),
)


def looks_like_one(path: Path) -> str:
    """Return why a file cannot be such a checkpoint, from size and first bytes; empty if it may be one."""
    if not path.is_file():
        return "no such file"
    size = path.stat().st_size
    if size > MAX_BYTES:
        return f"{size:,} bytes; at most {MAX_BYTES:,} are allowed"
    if not zipfile.is_zipfile(path):
        return (
            "not a file that torch.save wrote, or a truncated one, or one in torch's format from before "
            "2020, which cannot be examined without executing it"
        )
    return ""


def read_lightning(path: Path) -> LightningCheckpoint:
    """Read and check a checkpoint of the predecessor.

    Raises
    ------
    CorruptFile
        The file is missing, too large or truncated, names something that would be executed, or is not such a
        checkpoint; the message says what it holds instead.
    """
    path = Path(path)
    if problem := looks_like_one(path):
        raise CorruptFile(path, problem, hint="Give the .ckpt file that Lightning saved.")
    _check_archive(path)
    content = _load(path)
    return _checked(path, *_parts(path, content))


def _check_archive(path: Path) -> None:
    """Refuse an archive that expands, and one whose description of the tensors is too large."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
    except _BROKEN as error:
        raise _unreadable(path, error) from None
    for part in parts:
        if part.compress_type != zipfile.ZIP_STORED or part.file_size != part.compress_size:
            raise CorruptFile(path, f"{part.filename} is compressed, which torch.save never does")
        if part.filename.endswith("data.pkl") and part.file_size > MAX_PICKLE_BYTES:
            raise CorruptFile(
                path,
                f"its description has {part.file_size:,} bytes; at most {MAX_PICKLE_BYTES:,} are allowed",
            )


def _load(path: Path) -> Any:
    import torch

    try:
        unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except _BROKEN as error:
        raise _unreadable(path, error) from None
    if unsafe:
        named = ", ".join(sorted(unsafe)[:8])
        more = f" and {len(unsafe) - 8} more" if len(unsafe) > 8 else ""
        raise CorruptFile(
            path,
            f"it holds more than tensors and plain values: {named}{more}. Nothing of it was executed",
            hint=_CONVERT,
        )
    try:
        return torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except _BROKEN as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: BaseException) -> CorruptFile:
    reason = (str(error).strip().splitlines() or [""])[0][:200]
    return CorruptFile(
        path,
        f"torch cannot read it ({type(error).__name__}: {reason})",
        hint="Copy it again: it may be incomplete.",
    )


def _parts(path: Path, content: Any) -> tuple[Mapping[str, Any], Mapping[str, Any], int]:
    """Return state, settings and step of a file, or say what it is instead."""
    if not isinstance(content, Mapping) or not isinstance(content.get("state_dict"), Mapping):
        what = type(content).__name__
        if isinstance(content, Mapping):
            keys = [str(key) for key in content]
            what = f"a {what} of {len(keys):,}: {_some(keys)}"
        raise CorruptFile(
            path,
            f"not a Lightning checkpoint: no state_dict in it, but {what}",
            hint="Give the .ckpt file that Lightning saved, not an export of its weights.",
        )
    settings = content.get("hyper_parameters")
    if not isinstance(settings, Mapping):
        raise CorruptFile(
            path,
            "it has no hyper_parameters, which name the backbone and the code lengths",
            hint="Lightning writes them if the model calls save_hyperparameters().",
        )
    step = content.get("global_step")
    if not isinstance(step, int) or isinstance(step, bool) or not 0 <= step < 2**53:
        step = 0
    return content["state_dict"], settings, step


def _checked(
    path: Path, state: Mapping[str, Any], settings: Mapping[str, Any], step: int
) -> LightningCheckpoint:
    for one in state:
        if not isinstance(one, str):
            raise CorruptFile(path, f"a name in its state_dict is not text: {one!r:.60}")
    _check_parts(path, state)
    lengths = _lengths(path, settings)
    hidden = _whole(path, settings, "hidden_dim")
    name = settings.get("model_name")
    if not isinstance(name, str) or not name.strip():
        raise CorruptFile(path, f"hyper_parameters: model_name must be the backbone's name, not {name!r:.60}")
    heads = {side: _head(path, state, prefix, lengths, hidden) for side, prefix in _SIDES.items()}
    if heads["image"].width != heads["text"].width:
        raise CorruptFile(
            path,
            f"the heads take features of width {heads['image'].width} and {heads['text'].width}; "
            "pictures and texts must have the same",
        )
    backbone = {
        key.removeprefix(_BACKBONE): _tensor(path, key, value)
        for key, value in state.items()
        if key.startswith(_BACKBONE)
    }
    if not backbone:
        raise CorruptFile(path, f"it has no weights of the backbone ({_BACKBONE}…), but {_some(list(state))}")
    ours = tuple(length for length in lengths if length in CODE_LENGTHS)
    return LightningCheckpoint(
        path=path,
        model_name=name.strip(),
        lengths=ours,
        ignored=tuple(length for length in lengths if length not in ours),
        hidden=hidden,
        heads=heads,
        backbone=backbone,
        step=step,
    )


def _check_parts(path: Path, state: Mapping[str, Any]) -> None:
    """Refuse a model with parts that are not run here, since its codes would be others."""
    known: tuple[str, ...] = (_BACKBONE, *_PASSED_OVER)
    for prefix in _SIDES.values():
        known += tuple(f"{prefix}.{part}" for part in _PARTS)
    unknown = sorted({key.rpartition(".")[0] or key for key in state if not key.startswith(known)})
    if any(".stem" in one or ".heads." in one for one in unknown):
        raise CorruptFile(
            path,
            "its heads have a projection of their own for each length (stem and heads), so that no code is "
            "part of another",
            hint="Only models of one projection (hash_head) can be taken over; train again here.",
        )
    if unknown:
        raise CorruptFile(
            path,
            f"it has parts that are unknown here, without which its codes would be others: {_some(unknown)}",
            hint="Only models of a backbone and two heads (image_hash, text_hash) can be taken over.",
        )


def _lengths(path: Path, settings: Mapping[str, Any]) -> tuple[int, ...]:
    given = settings.get("bit_list")
    if given is None:
        given = DEFAULT_LENGTHS
    if not isinstance(given, Sequence) or isinstance(given, str) or not 0 < len(given) <= 64:
        raise CorruptFile(
            path, f"hyper_parameters: bit_list must be a list of code lengths, not {given!r:.60}"
        )
    for one in given:
        if isinstance(one, bool) or not isinstance(one, int) or not 1 <= one <= 4096:
            raise CorruptFile(path, f"hyper_parameters: bit_list holds {one!r:.60}, which is no code length")
    lengths = tuple(sorted(set(given)))
    if len(lengths) != len(given):
        raise CorruptFile(path, f"hyper_parameters: bit_list repeats a length: {list(given)}")
    if CODE_BITS not in lengths:
        raise CorruptFile(
            path,
            f"its code lengths are {', '.join(map(str, lengths))}; an index needs {CODE_BITS}",
            hint=f"Only models with a code of {CODE_BITS} bits can be taken over.",
        )
    return lengths


def _whole(path: Path, settings: Mapping[str, Any], name: str) -> int:
    value = settings.get(name, 512)  # the predecessor's default
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65_536:
        raise CorruptFile(path, f"hyper_parameters: {name} must be 1 to 65,536, not {value!r:.60}")
    return value


def _head(path: Path, state: Mapping[str, Any], prefix: str, lengths: Sequence[int], hidden: int) -> Head:
    longest = lengths[-1]
    first = _tensor(path, f"{prefix}.hash_head.0.weight", state.get(f"{prefix}.hash_head.0.weight"))
    width = int(first.shape[1]) if first.ndim == 2 else 0
    if not 1 <= width <= 65_536:
        raise CorruptFile(
            path, f"{prefix}.hash_head.0.weight has shape {tuple(first.shape)}, not (hidden, width)"
        )

    def read(name: str, *shape: int) -> NDArray[np.float32]:
        return _values(path, f"{prefix}.{name}", state.get(f"{prefix}.{name}"), shape)

    tensors = {
        "in.weight": read("hash_head.0.weight", hidden, width),
        "in.bias": read("hash_head.0.bias", hidden),
        "norm.weight": read("hash_head.1.weight", hidden),
        "norm.bias": read("hash_head.1.bias", hidden),
        "out.weight": read("hash_head.4.weight", longest, hidden)[:CODE_BITS],
        "out.bias": read("hash_head.4.bias", longest)[:CODE_BITS],
    }
    norms = {}
    for place, length in enumerate(lengths):
        name = f"batch_norms.{place}"
        scale, shift = read(f"{name}.weight", length), read(f"{name}.bias", length)
        mean, variance = read(f"{name}.running_mean", length), read(f"{name}.running_var", length)
        if (variance < 0).any():
            raise CorruptFile(path, f"{prefix}.{name}.running_var has negative values")
        if length in CODE_LENGTHS:
            factor = scale / np.sqrt(variance + np.float32(EPSILON))
            norms[length] = factor, (shift - mean * factor).astype(np.float32)
    return Head(tensors, norms)


def _tensor(path: Path, name: str, value: Any) -> Tensor:
    import torch

    if value is None:
        raise CorruptFile(path, f"{name} is missing")
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.is_meta:
        raise CorruptFile(path, f"{name} must be a dense tensor, not {type(value).__name__}")
    # An expanded tensor shows more values than the file holds.
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise CorruptFile(path, f"{name} claims shape {tuple(value.shape)}, more than the file holds")
    return value


def _values(path: Path, name: str, value: Any, shape: Sequence[int]) -> NDArray[np.float32]:
    """Return a tensor's values as float32, after a check of type, shape and values."""
    tensor = _tensor(path, name, value)
    if not tensor.is_floating_point() or tuple(tensor.shape) != tuple(shape):
        kind = str(tensor.dtype).removeprefix("torch.")
        raise CorruptFile(
            path, f"{name} is {kind} {tuple(tensor.shape)}; it must be floating point of shape {tuple(shape)}"
        )
    values: NDArray[np.float32] = tensor.detach().float().numpy().copy()
    if not np.isfinite(values).all():
        raise CorruptFile(path, f"{name} holds values that are not finite numbers")
    return values


def _some(names: Sequence[str], most: int = 6) -> str:
    shown = ", ".join(name[:60] for name in names[:most])
    return f"{shown} …" if len(names) > most else shown
