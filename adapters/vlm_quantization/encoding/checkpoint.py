"""A trained model as one safetensors file: weights, configuration, preprocessing and fingerprints.

The header, the format, the configuration, and each tensor's name, shape, type and values are checked before
anything is built. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from adapters.vlm_quantization.codes import CODE_BITS
from adapters.vlm_quantization.encoding.tensor_file import write_tensors
from workbench import CorruptFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray


#: Format name in the file's metadata; a later format gets another number.
FORMAT = "nested-code-model/2"


#: Format name of a file that also holds weights of its encoder, which were tuned.
TUNED_FORMAT = "nested-code-model/3"


#: Formats that are read. Files of the first one have no frozen text tower: their texts are n-grams alone.
READABLE = ("nested-code-model/1", FORMAT, TUNED_FORMAT)


#: A checkpoint larger than this is refused before it is read; a typical one is about 20 MB.
MAX_BYTES = 2 * 2**30


#: The same for one with tuned weights of an encoder; of these, one tensor at a time is in memory.
MAX_TUNED_BYTES = 32 * 2**30


#: What the names of an encoder's tuned weights begin with.
TUNED = "tuned."


LAST = "last.safetensors"


BEST = "best.safetensors"


REFIT = "refit.safetensors"


#: The separate codes of a checkpoint that was taken over; no index can hold them.
SEPARATE = "separate.safetensors"


class Config(BaseModel):
    """The configuration in a model file, which says what tensors belong to it."""

    model_config = ConfigDict(extra="forbid")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor in the file, by name."""
        raise NotImplementedError


ConfigType = TypeVar("ConfigType", bound=Config)


ProvenanceType = TypeVar("ProvenanceType", bound=BaseModel)


class ModelConfig(Config):
    """Everything that determines the model's shape and its preprocessing.

    Attributes
    ----------
    ngrams : bool
        Whether a text's n-grams are an input, through a trained embedding.
    ngram_softness : float
        A text's sum of n-gram vectors is divided by ``sqrt(softness * text_width + its squared length)``: 0
        gives unit length, as in files of the first format. More keeps texts of unknown n-grams near zero.
    text_tower : str
        Name of the frozen text tower whose features are an input; empty if there is none.
    text_dim, text_components : int
        Width of its features, and how many principal components of them are used; 0 if there is none.
    head : {"skip-relu", "layernorm-gelu"}
        What is between features and code. ``layernorm-gelu`` is the head of this adapter's predecessor, on
        the features of both towers as they are; the float features are then those of the towers.
    separate : tuple of int
        With ``layernorm-gelu``: code lengths with thresholds of their own, so that short codes are not
        prefixes, and no index can hold them. Empty: one threshold per bit.
    tuned : dict of str to tuple of int
        Shapes of the encoder's weights that were trained too, by the name that they have in its model; empty:
        it is frozen. A name with ``.lora_a`` or ``.lora_b`` behind it is one of two factors, whose product
        ``b @ a`` is added to that weight.
    """

    image_tower: str = "efficientnet-lite0"
    image_dim: int = Field(1280, ge=1, le=65_536)
    image_components: int = Field(320, ge=1, le=65_536)
    hidden: int = Field(512, ge=1, le=65_536)
    dim: int = Field(256, ge=1, le=65_536)
    text_buckets: int = Field(16_384, ge=16, le=1_048_576)
    text_width: int = Field(128, ge=1, le=65_536)
    ngrams: bool = True
    ngram_softness: float = Field(0.0, ge=0, le=1e6)
    text_tower: str = ""
    text_dim: int = Field(0, ge=0, le=65_536)
    text_components: int = Field(0, ge=0, le=65_536)
    bits: Literal[128] = CODE_BITS
    head: Literal["skip-relu", "layernorm-gelu"] = "skip-relu"
    separate: tuple[Literal[8, 16, 32, 64, 128], ...] = ()
    tuned: dict[str, tuple[Annotated[int, Field(ge=0, le=2**31)], ...]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_head(self) -> ModelConfig:
        if self.head == "skip-relu":
            if self.separate:
                raise ValueError("only head layernorm-gelu has separate codes")
        elif self.ngrams or not self.image_dim == self.text_dim == self.dim:
            raise ValueError("head layernorm-gelu takes the features of two towers of one width, no n-grams")
        return self

    @model_validator(mode="after")
    def _check_texts(self) -> ModelConfig:
        if not self.ngrams and not self.text_tower:
            raise ValueError("a text needs n-grams, a text tower, or both")
        if len({bool(self.text_tower), bool(self.text_dim), bool(self.text_components)}) > 1:
            raise ValueError("text_tower, text_dim and text_components must be set together")
        return self

    @property
    def text_inputs(self) -> int:
        """Width of what enters the trained text tower."""
        return (self.text_width if self.ngrams else 0) + self.text_components

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor in the file, by name."""
        if self.head == "layernorm-gelu":
            return self._predecessors_shapes()
        return {
            **{TUNED + name: shape for name, shape in self.tuned.items()},
            "image.mean": (self.image_dim,),
            "image.projection": (self.image_dim, self.image_components),
            **({"text.embedding": (self.text_buckets, self.text_width)} if self.ngrams else {}),
            **(
                {
                    "text.mean": (self.text_dim,),
                    "text.projection": (self.text_dim, self.text_components),
                }
                if self.text_tower
                else {}
            ),
            **{
                f"{side}.{name}": shape
                for side, width in (("image", self.image_components), ("text", self.text_inputs))
                for name, shape in (
                    ("in.weight", (self.hidden, width)),
                    ("in.bias", (self.hidden,)),
                    ("out.weight", (self.dim, self.hidden)),
                    ("out.bias", (self.dim,)),
                    ("skip.weight", (self.dim, width)),
                    ("code.weight", (self.bits, self.dim)),
                    ("code.threshold", (self.bits,)),
                )
            },
        }

    def _predecessors_shapes(self) -> dict[str, tuple[int, ...]]:
        codes = {f"code.{length}": length for length in self.separate} or {"code": self.bits}
        return {
            f"{side}.{name}": shape
            for side in ("image", "text")
            for name, shape in (
                ("in.weight", (self.hidden, self.dim)),
                *((name, (self.hidden,)) for name in ("in.bias", "norm.weight", "norm.bias")),
                ("out.weight", (self.bits, self.hidden)),
                ("out.bias", (self.bits,)),
                *((f"{code}.{part}", (n,)) for code, n in codes.items() for part in ("scale", "shift")),
            )
        }


class Provenance(BaseModel):
    """Where a model comes from.

    Attributes
    ----------
    tower, text_tower : str
        Fingerprints of the frozen towers; empty if not recorded, or if there is none.
    data, split : str
        Fingerprints of the collection and of the part trained on.
    taken_from : str
        Name of the file that a model trained elsewhere was taken over from; its training data are unknown.
    languages : tuple of str
        Languages of the texts trained on; empty in files of an earlier format.
    text_languages : tuple of str
        Languages that the frozen text tower was trained on.
    encoder : mapping
        Library, revision, files and settings of an encoder of one's own; empty for the built-in ones.
    tuned : mapping
        Of an encoder whose weights were trained too: ``mode`` (``towers`` or ``lora``), ``image`` and
        ``text`` (fingerprints of the towers before, empty if that one stayed frozen) and ``weights`` (SHA-256
        of the tuned weights in the file). Empty: the encoder is frozen.
    """

    model_config = ConfigDict(extra="forbid")

    tower: str = ""
    text_tower: str = ""
    languages: tuple[str, ...] = ()
    text_languages: tuple[str, ...] = ()
    encoder: dict[str, Any] = Field(default_factory=dict)
    data: str = ""
    split: str = ""
    taken_from: str = ""
    tuned: dict[str, str] = Field(default_factory=dict)
    seed: int = 0
    step: int = 0


class Checkpoint(BaseModel):
    """A checked checkpoint in memory; tuned weights of its encoder stay in the file at ``path``."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    config: ModelConfig
    provenance: Provenance
    tensors: dict[str, Any]
    fingerprint: str
    path: Path


def write_checkpoint(
    path: Path, config: ModelConfig, provenance: Provenance, tensors: dict[str, NDArray[np.float32]]
) -> None:
    """Write a checkpoint file; the caller moves it to its final place.

    Raises
    ------
    ValueError
        A tensor is missing, unexpected, or of the wrong shape.
    """
    write_model(path, TUNED_FORMAT if config.tuned else FORMAT, config, provenance, tensors)


def write_model(
    path: Path, name: str, config: Config, provenance: BaseModel, tensors: dict[str, NDArray[np.float32]]
) -> None:
    """Write a model file of the format with a name; equal models give equal bytes.

    Raises
    ------
    ValueError
        As for :func:`write_checkpoint`.
    """
    shapes = config.shapes()
    if {name: tensor.shape for name, tensor in tensors.items()} != shapes:
        raise ValueError(f"tensors do not match the configuration: {sorted(set(tensors) ^ set(shapes))}")
    metadata = {
        "format": name,
        "config": _json(config),
        "provenance": _json(provenance),
        "digest": digest_of((name, tensors[name]) for name in sorted(tensors)),
    }
    write_tensors(path, {name: np.asarray(t, np.float32) for name, t in tensors.items()}, metadata)


def _json(model: BaseModel) -> str:
    # what a file of an earlier format does not know is left out where it says nothing
    return model.model_dump_json(exclude=None if getattr(model, "tuned", True) else {"tuned"})


def format_of(path: Path) -> str:
    """Return the format that a model file names; empty if it is not readable or names none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return str((file.metadata() or {}).get("format", ""))
    except (OSError, SafetensorError, ValueError):
        return ""


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and check a checkpoint.

    Raises
    ------
    CorruptFile
        The file is missing, too large, not safetensors, of another format, altered, or inconsistent.
    """
    config, provenance, tensors, digest = read_model(path, READABLE, ModelConfig, Provenance)
    return Checkpoint(
        config=config, provenance=provenance, tensors=tensors, fingerprint=digest, path=Path(path)
    )


def tuned_weights(checkpoint: Checkpoint) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield the tuned weights of a checkpoint's encoder, read from its file one at a time.

    Raises
    ------
    CorruptFile
        The file was removed or changed since the checkpoint was opened; raised at the latest after the last
        tensor.
    """
    from safetensors import SafetensorError, safe_open

    hint = "Open the model again."
    digest = hashlib.sha256()
    try:
        with safe_open(checkpoint.path, framework="numpy") as file:
            for name in sorted(checkpoint.config.tuned):
                tensor = file.get_tensor(TUNED + name)
                _add(digest, name, tensor)
                yield name, tensor
    except (OSError, SafetensorError, ValueError) as error:
        raise CorruptFile(checkpoint.path, f"the tuned weights cannot be read: {error}", hint=hint) from None
    if digest.hexdigest() != checkpoint.provenance.tuned.get("weights"):
        raise CorruptFile(checkpoint.path, "the file has changed since it was opened", hint=hint)


def read_model(
    path: Path,
    readable: Sequence[str],
    config_type: type[ConfigType],
    provenance_type: type[ProvenanceType],
    *,
    hint: str = "Train again, or choose another checkpoint.",
) -> tuple[ConfigType, ProvenanceType, dict[str, Any], str]:
    """Read and check a model file of one of the readable formats.

    Returns
    -------
    config, provenance, tensors, digest
        ``tensors`` by name, float32, without the tuned weights of an encoder, which are only checked;
        ``digest`` is the SHA-256 (hex) of all weights.

    Raises
    ------
    CorruptFile
        As for :func:`read_checkpoint`.
    """
    path = Path(path)
    if not path.is_file():
        raise CorruptFile(path, "no such file", hint=hint)
    size = path.stat().st_size
    most = MAX_BYTES
    if size > most and format_of(path) == TUNED_FORMAT:
        most = MAX_TUNED_BYTES
    if size > most:
        raise CorruptFile(path, f"{size:,} bytes; at most {most:,} are allowed", hint=hint)
    try:
        return _read(path, readable, config_type, provenance_type)
    except CorruptFile:
        raise
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CorruptFile(path, f"invalid configuration: {where}: {first['msg']}", hint=hint) from None
    except Exception as error:  # safetensors raises its own type, and several others for a broken header
        raise CorruptFile(path, f"not a readable safetensors file ({error})", hint=hint) from None


def _read(
    path: Path, readable: Sequence[str], config_type: type[ConfigType], provenance_type: type[ProvenanceType]
) -> tuple[ConfigType, ProvenanceType, dict[str, Any], str]:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
        if metadata.get("format") not in readable:
            known = " and ".join(map(repr, readable))
            raise CorruptFile(path, f"format {metadata.get('format')!r}; this version reads {known}")
        config = config_type.model_validate(json.loads(metadata.get("config", "")))
        provenance = provenance_type.model_validate(json.loads(metadata.get("provenance", "")))
        shapes = config.shapes()
        names = set(file.keys())
        if names != set(shapes):
            raise CorruptFile(
                path, f"missing or unexpected tensors: {', '.join(sorted(names ^ set(shapes)))}"
            )
        for name, shape in shapes.items():
            part = file.get_slice(name)
            if tuple(part.get_shape()) != shape or part.get_dtype() != "F32":
                raise CorruptFile(
                    path, f"{name} is {part.get_dtype()} {tuple(part.get_shape())}, not F32 {shape}"
                )
        tensors: dict[str, Any] = {}
        whole, tuned, finite = hashlib.sha256(), hashlib.sha256(), True
        for name in sorted(shapes):
            tensor = file.get_tensor(name)
            _add(whole, name, tensor)
            finite = finite and bool(np.isfinite(tensor).all())
            if name.startswith(TUNED):
                _add(tuned, name.removeprefix(TUNED), tensor)
            else:
                tensors[name] = tensor
    expected = getattr(provenance, "tuned", {}).get("weights", "")
    if whole.hexdigest() != metadata.get("digest") or expected not in ("", tuned.hexdigest()):
        raise CorruptFile(path, "checksum mismatch: the weights were altered after writing")
    if not finite:
        raise CorruptFile(path, "the weights must be finite numbers")
    return config, provenance, tensors, whole.hexdigest()


def digest_of(tensors: Iterable[tuple[str, Any]]) -> str:
    """Return the SHA-256 (hex) of names and float32 values, in the order given."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        _add(digest, name, tensor)
    return digest.hexdigest()


def _add(digest: hashlib._Hash, name: str, tensor: Any) -> None:
    digest.update(name.encode() + b"\0")
    digest.update(np.ascontiguousarray(tensor, "<f4").data)
