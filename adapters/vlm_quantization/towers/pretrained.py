"""Two-tower models of the transformers library, from a folder or from the Hugging Face hub.

SigLIP, SigLIP 2, CLIP, and every other model there with ``get_image_features`` and ``get_text_features``,
such as AltCLIP and Chinese CLIP. Pictures go through the model's own processor in its Pillow form, so that
vectors are the same whether torchvision is installed or not.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from adapters.vlm_quantization.towers.pair import EncoderPair
from adapters.vlm_quantization.towers.torch_tower import TorchTower, half
from adapters.vlm_quantization.towers.torchvision import import_transformers
from adapters.vlm_quantization.towers.weights import ModelFiles, model_files, read_json
from workbench import BadInput, MissingExtra

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from PIL.Image import Image

#: Pictures per forward pass; base-size models at 224 pixels then need about 200 MB beside their weights.
PICTURE_BATCH = 16


#: Texts per forward pass.
TEXT_BATCH = 64


#: Model types trained on lower-case texts, padded on the right to a fixed length and read without a mask:
#: they take their vector from the last position, which is part of the padding (Zhai et al., 2023).
PADDED = ("siglip", "siglip2")


#: Tokens of a text that these models were trained with.
PADDED_LENGTH = 64


#: Types of text models whose positions begin behind the padding token's number.
_OFFSET_POSITIONS = ("altclip_text_model", "camembert", "roberta", "xlm-roberta")


def open_pretrained(name: str) -> EncoderPair:
    """Return the towers of a transformers model; its weights are read at the first use.

    Parameters
    ----------
    name : str
        A folder, or a name on the hub with an optional revision: ``google/siglip2-base-patch16-224@main``.

    Raises
    ------
    BadInput
        The model cannot be found or is not a two-tower model, or its weights are not safetensors.
    MissingExtra
        transformers is not installed.
    """
    try:
        import_transformers()
    except ImportError:
        raise MissingExtra("transformers", "transformers") from None
    import transformers

    model = _Model(name, model_files(name))
    image, text = PretrainedImages(model), PretrainedTexts(model)
    about = {
        "library": f"transformers {transformers.__version__}",
        "type": model.config.model_type,
        **model.files.about(),
        "processor": model.picture_settings,
        "tokens": text.most_tokens,
        "lower_case": text.padded,
    }
    return EncoderPair(name, image, text, aligned=True, about=about)


class _Model:
    """A two-tower model with its processor and tokenizer, each opened at its first use."""

    def __init__(self, name: str, files: ModelFiles) -> None:
        self.name = name
        self.files = files

    @cached_property
    def config(self) -> Any:
        from transformers import AutoConfig

        kind = read_json(self.files.folder, "config.json").get("model_type")
        try:
            with _quiet():  # it warns of end tokens that published SigLIP configurations leave at a default
                config = AutoConfig.from_pretrained(self.files.folder, trust_remote_code=False)
        except (KeyError, OSError, ValueError, TypeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise BadInput(
                f"{self.name}: transformers cannot read the configuration of type {kind!r}: {reason}",
                hint="Models that bring code of their own are not supported; a newer transformers may know "
                "the type.",
            ) from None
        if not (hasattr(config, "vision_config") and hasattr(config, "text_config")):
            raise BadInput(
                f"{self.name} is a {config.model_type} model, not one of pictures and texts",
                hint="Give a model such as SigLIP, SigLIP 2, CLIP or Chinese CLIP.",
            )
        return config

    @property
    def dim(self) -> int:
        """Width of the vectors, by the configuration."""
        if self.config.model_type in PADDED:
            return int(self.config.vision_config.hidden_size)
        dim = getattr(self.config, "projection_dim", None)
        if not isinstance(dim, int) or dim < 1:
            raise BadInput(
                f"{self.name}: a {self.config.model_type} model has no space shared by pictures and texts",
                hint="Give a model such as SigLIP, SigLIP 2, CLIP or Chinese CLIP.",
            )
        return dim

    @cached_property
    def model(self) -> Any:
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModel

        if model_files(self.name) != self.files:
            raise BadInput(f"the files of {self.name} have just changed", hint="Start the job again.")
        try:
            with _quiet():
                model, report = AutoModel.from_pretrained(
                    self.files.folder,
                    config=self.config,
                    use_safetensors=True,
                    trust_remote_code=False,
                    dtype=torch.float32,
                    output_loading_info=True,
                )
        except (KeyError, OSError, RuntimeError, SafetensorError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise BadInput(
                f"{self.name}: the weights cannot be read: {reason}", hint="Download or save the model again."
            ) from None
        if missing := sorted(report["missing_keys"]):
            raise BadInput(
                f"{self.name}: the weights lack {len(missing)} tensors of the model, such as {missing[0]}",
                hint="Check that the download is complete.",
            )
        for method in ("get_image_features", "get_text_features"):
            if not hasattr(model, method):
                raise BadInput(f"{self.name}: a {self.config.model_type} model has no {method}")
        return model.eval()

    @cached_property
    def processor(self) -> Any:
        from transformers import AutoImageProcessor

        try:
            return AutoImageProcessor.from_pretrained(
                self.files.folder, backend="pil", trust_remote_code=False
            )
        except (ImportError, OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise BadInput(
                f"{self.name}: no processor for its pictures: {reason}",
                hint="Its folder needs preprocessor_config.json beside the weights.",
            ) from None

    @property
    def picture_settings(self) -> dict[str, Any]:
        """Settings of the picture processor, as a checkpoint records them."""
        return {
            key: value
            for key, value in self.processor.to_dict().items()
            if isinstance(value, bool | int | float | str | list | dict)
        }

    @cached_property
    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(self.files.folder, trust_remote_code=False)
        except (ImportError, KeyError, OSError, TypeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise BadInput(
                f"{self.name}: no tokenizer for its texts: {reason}",
                hint="Its folder needs the tokenizer's files beside the weights.",
            ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep warnings and progress bars of transformers from the terminal; errors are raised in any case."""
    from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


class PretrainedImages(TorchTower["Image"]):
    """The picture tower of a transformers model."""

    batch = PICTURE_BATCH

    def __init__(self, model: _Model) -> None:
        self._model = model
        self.name, self.dim = model.name, model.dim
        self.fingerprint = f"transformers/{model.config.model_type}/{model.files.fingerprint}/pictures"
        self._network: Any = None

    def inputs(self, items: Sequence[Image]) -> Mapping[str, NDArray[Any]]:
        """Return what the model's own processor makes of pictures."""
        pictures = [picture.convert("RGB") for picture in items]
        made = self._model.processor(images=pictures, return_tensors="np")
        return {key: np.ascontiguousarray(value) for key, value in made.items()}

    def network(self) -> Any:
        """Return the picture half of the model."""
        if self._network is None:
            names = list(self._model.processor.model_input_names)
            self._network = half(self._model.model, "get_image_features", names)
        return self._network


class PretrainedTexts(TorchTower[str]):
    """The text tower of a transformers model.

    Attributes
    ----------
    most_tokens : int
        Tokens of a text that are read; what follows them is cut off.
    padded : bool
        Whether texts are lower-cased and padded to :data:`PADDED_LENGTH`.
    """

    batch = TEXT_BATCH

    def __init__(self, model: _Model) -> None:
        self._model = model
        self.name, self.dim = model.name, model.dim
        self.padded = model.config.model_type in PADDED
        self.most_tokens = self._most_tokens()
        self.lengths_vary = not self.padded
        rules = f"lower-case, {self.most_tokens} tokens" if self.padded else f"{self.most_tokens} tokens"
        self.fingerprint = f"transformers/{model.config.model_type}/{model.files.fingerprint}/texts, {rules}"
        self._network: Any = None

    def _most_tokens(self) -> int:
        text = self._model.config.text_config
        positions = int(getattr(text, "max_position_embeddings", 0)) or PADDED_LENGTH
        if self.padded:
            return min(PADDED_LENGTH, positions)
        if getattr(text, "model_type", "") in _OFFSET_POSITIONS:
            positions -= int(text.pad_token_id) + 1
        return min(positions, int(self._model.tokenizer.model_max_length))

    def _form(self, texts: Sequence[str]) -> list[str]:
        return [text.lower() for text in texts] if self.padded else list(texts)

    def inputs(self, items: Sequence[str]) -> Mapping[str, NDArray[np.int64]]:
        """Return the tokens of texts, int64, in the form that the model was trained with."""
        rules: dict[str, Any] = {"truncation": True, "max_length": self.most_tokens, "return_tensors": "np"}
        if self.padded:
            rules |= {"padding": "max_length", "padding_side": "right", "return_attention_mask": False}
        else:
            rules |= {"padding": True}
        made = self._model.tokenizer(self._form(items), **rules)
        kept = ("input_ids",) if self.padded else tuple(made)
        return {key: np.ascontiguousarray(made[key], np.int64) for key in kept}

    def network(self) -> Any:
        """Return the text half of the model."""
        if self._network is None:
            names = list(self.inputs(["a"]))
            self._network = half(self._model.model, "get_text_features", names)
        return self._network

    def cut_texts(self, texts: Sequence[str]) -> int:
        """Return how many texts are longer than :attr:`most_tokens`, so that only their beginning is read."""
        if not texts:
            return 0
        tokens = self._model.tokenizer(self._form(texts), truncation=False, verbose=False)["input_ids"]
        return sum(len(one) > self.most_tokens for one in tokens)
