"""OpenCLIP models: from a folder, a checkpoint file of a known architecture, or the hub."""

from __future__ import annotations

import hashlib
import logging
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adapters.vlm_quantization.towers.pair import EncoderPair
from adapters.vlm_quantization.towers.torch_tower import TorchTower, half
from adapters.vlm_quantization.towers.torchvision import need_torchvision
from adapters.vlm_quantization.towers.weights import (
    HUB_NAME,
    PICKLED,
    ModelFiles,
    model_files,
    read_json,
    weights_file,
)
from workbench import BadInput, MissingExtra

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from PIL.Image import Image

#: What an OpenCLIP encoder's name begins with.
PREFIX = "openclip:"


#: The configuration in a folder that OpenCLIP wrote.
CONFIG = "open_clip_config.json"


#: Pictures per forward pass.
PICTURE_BATCH = 16


#: Texts per forward pass.
TEXT_BATCH = 64


#: Forms of such a name.
FORMS = (
    "openclip:FOLDER, openclip:OWNER/MODEL, openclip:ARCHITECTURE:FILE.safetensors, openclip:ARCHITECTURE:TAG"
)


def open_openclip(name: str) -> EncoderPair:
    """Return the towers of an OpenCLIP model; its weights are read at the first use.

    Parameters
    ----------
    name : str
        One of :data:`FORMS`; or a folder with ``open_clip_config.json``.

    Raises
    ------
    BadInput
        The model cannot be found, its weights are not safetensors, or the installed torchvision does not fit.
    MissingExtra
        OpenCLIP is not installed.
    """
    need_torchvision("OpenCLIP")
    try:
        import open_clip
    except ImportError:
        raise MissingExtra("open_clip", "openclip") from None
    model = _Model(name)
    image, text = OpenClipImages(model), OpenClipTexts(model)
    about = {
        "library": f"open_clip {open_clip.__version__}",
        "type": model.architecture,
        **model.files.about(),
        "processor": model.preprocessing,
        "tokens": text.most_tokens,
    }
    return EncoderPair(name, image, text, aligned=True, about=about)


def split_name(name: str) -> tuple[str, str]:
    """Return architecture and weights of a name; the architecture is empty where a folder names it.

    Raises
    ------
    BadInput
        The name has none of the forms.
    """
    rest = name.removeprefix(PREFIX)
    if not rest:
        raise BadInput(f"{name!r} names no model", hint=f"Forms: {FORMS}.")
    if Path(rest).expanduser().is_dir() or ":" not in rest:
        return "", rest
    architecture, _, weights = rest.partition(":")
    if not architecture or not weights:
        raise BadInput(f"{name!r} lacks its architecture or its weights", hint=f"Forms: {FORMS}.")
    return architecture, weights


class _Model:
    """An OpenCLIP model with its transform and tokenizer, opened at the first use."""

    def __init__(self, name: str) -> None:
        import open_clip

        self.name = name
        self.architecture, weights = split_name(name)
        self.preprocessing: dict[str, Any] = asdict(open_clip.transform.PreprocessCfg())
        if self.architecture:
            known = open_clip.get_model_config(self.architecture)
            if known is None:
                raise BadInput(
                    f"OpenCLIP knows no architecture {self.architecture!r}",
                    hint="Known ones: python -c 'import open_clip; print(open_clip.list_models())'.",
                )
            self.config: dict[str, Any] = known
            self.files, self.weights = self._files_for(weights)
            self._tokenizer_of = self.architecture
        else:
            self.files = model_files(weights)
            config = read_json(self.files.folder, CONFIG)
            if not isinstance(config.get("model_cfg"), dict):
                raise BadInput(f"{self.files.folder / CONFIG} has no model_cfg")
            self.config = config["model_cfg"]
            self._prepare_as(config.get("preprocess_cfg", {}))
            self.weights = weights_file(self.files.folder)
            self._tokenizer_of = f"local-dir:{self.files.folder}"

    def _prepare_as(self, settings: Mapping[str, Any]) -> None:
        import open_clip

        self.preprocessing = open_clip.transform.merge_preprocess_dict(self.preprocessing, dict(settings))

    def _files_for(self, weights: str) -> tuple[ModelFiles, Path]:
        """Return the files behind a known architecture: one file, or what a tag of OpenCLIP means."""
        import open_clip

        path = Path(weights).expanduser()
        if path.is_file() or path.suffix in (".safetensors", *PICKLED):
            if path.suffix != ".safetensors":
                raise BadInput(
                    f"{path} can run code when it is opened; only safetensors files are loaded",
                    hint="Where you trust its origin, load it with OpenCLIP and save its state_dict with "
                    "safetensors.torch.save_file.",
                )
            if not path.is_file():
                raise BadInput(f"no file {weights!r}")
            with path.open("rb") as data:
                digest = hashlib.file_digest(data, "sha256").hexdigest()
            return ModelFiles(path.resolve().parent, "", {path.name: digest}), path.resolve()
        settings = open_clip.get_pretrained_cfg(self.architecture, weights)
        if not settings:
            known = ", ".join(open_clip.list_pretrained_tags_by_model(self.architecture)) or "none"
            raise BadInput(
                f"OpenCLIP knows no weights {weights!r} for {self.architecture}, and there is no such file",
                hint=f"Known tags: {known}.",
            )
        repository = "/".join(settings.get("hf_hub", "").split("/")[:2])
        if not HUB_NAME.fullmatch(repository):
            raise BadInput(
                f"OpenCLIP's {self.architecture}:{weights} is not published as safetensors",
                hint="Choose another tag, or convert the file and give its path.",
            )
        if bool(settings.get("quick_gelu")) != bool(self.config.get("quick_gelu")):
            ending = "-quickgelu" if settings.get("quick_gelu") else ""
            raise BadInput(
                f"OpenCLIP's weights {weights!r} belong to another activation than {self.architecture} has",
                hint=f"Give {self.architecture.removesuffix('-quickgelu')}{ending}:{weights}.",
            )
        self._prepare_as(settings)
        files = model_files(repository)
        return files, weights_file(files.folder)

    @property
    def fingerprint(self) -> str:
        """A digest of the files, the architecture and the preprocessing."""
        settings = sorted(self.preprocessing.items())
        digest = hashlib.sha256(f"{sorted(self.config.items())} {settings}".encode()).hexdigest()[:8]
        return f"openclip/{self.files.fingerprint}/{digest}"

    @cached_property
    def model(self) -> Any:
        """The model: built without weights, then given those of the safetensors file."""
        import open_clip
        from safetensors import SafetensorError

        source = self.architecture or f"local-dir:{self.files.folder}"
        settings = {key: value for key, value in self.preprocessing.items() if key != "size"}
        try:
            with _without_warnings():  # it warns of random weights, which the next line replaces
                model = open_clip.create_model(
                    source,
                    load_weights=False,
                    pretrained_image=False,
                    pretrained_text=False,
                    force_preprocess_cfg=settings,
                )
            open_clip.load_checkpoint(model, str(self.weights))
        except (KeyError, OSError, RuntimeError, SafetensorError, TypeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise BadInput(
                f"{self.name}: the weights do not fit the model: {reason}",
                hint="Check that architecture and weights belong together.",
            ) from None
        return model.eval()

    @cached_property
    def transform(self) -> Any:
        """The picture transform of the model, for inference."""
        import open_clip

        settings = open_clip.transform.PreprocessCfg(**self.model.visual.preprocess_cfg)
        return open_clip.transform.image_transform_v2(settings, is_train=False)

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer that belongs to the model."""
        import open_clip

        try:
            return open_clip.get_tokenizer(self._tokenizer_of)
        except (ImportError, OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise BadInput(f"{self.name}: no tokenizer for its texts: {reason}") from None


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep warnings from the root logger, which OpenCLIP uses, and its handlers as they are."""
    handler = logging.NullHandler()  # without any handler, logging.warning adds one that stays
    logging.root.addHandler(handler)
    logging.root.addFilter(_is_error)
    try:
        yield
    finally:
        logging.root.removeFilter(_is_error)
        logging.root.removeHandler(handler)


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


class OpenClipImages(TorchTower["Image"]):
    """The picture tower of an OpenCLIP model."""

    batch = PICTURE_BATCH

    def __init__(self, model: _Model) -> None:
        self._model = model
        self.name, self.dim = model.name, int(model.config["embed_dim"])
        self.fingerprint = f"{model.fingerprint}/pictures"
        self._network: Any = None

    def inputs(self, items: Sequence[Image]) -> Mapping[str, NDArray[np.float32]]:
        """Return what the model's own transform makes of pictures, float32, shape (n, 3, side, side)."""
        return {"image": np.stack([self._model.transform(item.convert("RGB")).numpy() for item in items])}

    def network(self) -> Any:
        """Return the picture half of the model."""
        if self._network is None:
            self._network = half(self._model.model, "encode_image", ())
        return self._network


class OpenClipTexts(TorchTower[str]):
    """The text tower of an OpenCLIP model.

    Attributes
    ----------
    most_tokens : int
        Tokens of a text that are read; what follows them is cut off.
    """

    batch = TEXT_BATCH

    def __init__(self, model: _Model) -> None:
        self._model = model
        self.name, self.dim = model.name, int(model.config["embed_dim"])
        self.most_tokens = int(model.config["text_cfg"].get("context_length", 77))
        self.fingerprint = f"{model.fingerprint}/texts"
        self._network: Any = None

    def inputs(self, items: Sequence[str]) -> Mapping[str, NDArray[np.int64]]:
        """Return the tokens of texts by the model's own tokenizer, int64, shape (n, most_tokens)."""
        return {"text": self._model.tokenizer(list(items)).numpy()}

    def network(self) -> Any:
        """Return the text half of the model."""
        if self._network is None:
            self._network = half(self._model.model, "encode_text", ())
        return self._network

    def cut_texts(self, texts: Sequence[str]) -> int:
        """Return how many texts are longer than :attr:`most_tokens`, so that only their beginning is read."""
        tokenizer = self._model.tokenizer
        if hasattr(tokenizer, "encode"):
            return sum(len(tokenizer.encode(text)) + 2 > self.most_tokens for text in texts)
        tokens = tokenizer.tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]
        return sum(len(one) > self.most_tokens for one in tokens)
