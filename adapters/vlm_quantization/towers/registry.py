"""The frozen towers under the hash heads, by the name of their encoder.

``packaged``, the default, is EfficientNet-Lite0 trained on ImageNet (Tan & Le, 2019; Apache-2.0) for
pictures, and the multilingual Universal Sentence Encoder (Yang et al., 2020; Apache-2.0) for texts, both
installed by pip. ``random`` is a fixed random projection, for tests and for trials without a download. Any
other name is a model of one's own: a folder, a name on the hub, ``openclip:`` or ``openvino:``, see
:data:`FORMS`.

A model may also have no frozen text tower, and only character n-grams that index a trained embedding.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.vlm_quantization.towers.dummy import DummyTextModel, DummyVisionModel
from adapters.vlm_quantization.towers.efficientnet import EfficientNetLite
from adapters.vlm_quantization.towers.multilingual import Multilingual
from adapters.vlm_quantization.towers.pair import EncoderPair
from adapters.vlm_quantization.towers.tower import ImageTower, TextTower
from workbench import BadInput, MissingExtra

if TYPE_CHECKING:
    from collections.abc import Callable


#: The picture towers of the built-in encoders, by the name in a checkpoint.
TOWERS: dict[str, Callable[[], ImageTower]] = {
    "efficientnet-lite0": EfficientNetLite,
    "random": DummyVisionModel,
}


#: The text towers of the built-in encoders, by the name in a checkpoint.
TEXT_TOWERS: dict[str, Callable[[], TextTower]] = {
    "multilingual": Multilingual,
    "random": DummyTextModel,
}


#: The built-in encoders: the names of their two towers.
BUILT_IN = {"packaged": ("efficientnet-lite0", "multilingual"), "random": ("random", "random")}


#: The default encoder.
PACKAGED = "packaged"


#: Forms of an encoder's name, for help texts and errors.
FORMS = (
    "'packaged'; the folder of a transformers or OpenCLIP model; a name on the hub such as "
    "google/siglip2-base-patch16-224, with @revision; openclip:ARCHITECTURE:TAG_OR_FILE; openvino: before "
    "any of them executes it by OpenVINO; 'random' is for tests"
)


#: Models of one's own that a process keeps open; a base-size one takes 1.5 GB.
KEPT_OPEN = 2


_OPENCLIP, _OPENVINO = "openclip:", "openvino:"


def encoder_pair(name: str) -> EncoderPair:
    """Return the towers of an encoder; one instance per process, since they hold weights.

    A model whose files have changed since is opened again.

    Raises
    ------
    BadInput
        The name is unknown, or the model cannot be used; the message says why, and what to do.
    MissingExtra
        A package that it needs is not installed.
    """
    if name in BUILT_IN:
        image, text = BUILT_IN[name]
        return EncoderPair(name, image_tower(image), text_tower(text))
    if name.startswith(_OPENVINO):
        return _executed(name, *_state(name.removeprefix(_OPENVINO)))
    return _opened(name, *_state(name))


@lru_cache(maxsize=4)
def _built_in_image(name: str) -> ImageTower:
    return TOWERS[name]()


@lru_cache(maxsize=4)
def _built_in_text(name: str) -> TextTower:
    return TEXT_TOWERS[name]()


def image_tower(name: str) -> ImageTower:
    """Return the picture tower with a name of :data:`TOWERS`, or the one of an encoder.

    Raises
    ------
    BadInput, MissingExtra
        As for :func:`encoder_pair`.
    """
    return _built_in_image(name) if name in TOWERS else encoder_pair(name).image


def text_tower(name: str) -> TextTower:
    """Return the text tower with a name of :data:`TEXT_TOWERS`, or the one of an encoder.

    Raises
    ------
    BadInput
        The name is unknown, or the encoder has no text tower.
    MissingExtra
        As for :func:`encoder_pair`.
    """
    if name in TEXT_TOWERS:
        return _built_in_text(name)
    text = encoder_pair(name).text
    if text is None:
        raise BadInput(f"encoder {name!r} has no text tower", hint=f"Text towers: {', '.join(TEXT_TOWERS)}.")
    return text


def image_name(encoder: str) -> str:
    """Return the name of an encoder's picture tower, as a checkpoint holds it; nothing is opened."""
    return BUILT_IN[encoder][0] if encoder in BUILT_IN else encoder


def text_name(encoder: str) -> str:
    """Return the name of an encoder's own text tower, as a checkpoint holds it; nothing is opened."""
    return BUILT_IN[encoder][1] if encoder in BUILT_IN else encoder


def fresh_pair(name: str) -> EncoderPair:
    """Return the towers of an encoder with a network that nothing else uses, so that it may be changed.

    Raises
    ------
    BadInput
        The encoder has no torch network of its own for pictures and texts, or cannot be opened.
    MissingExtra
        As for :func:`encoder_pair`.
    """
    if problem := why_not_tunable(name):
        raise BadInput(problem, hint=TUNABLE)
    return _opened.__wrapped__(name)


#: Which encoders can be tuned, for errors.
TUNABLE = "Give a transformers or OpenCLIP model by its folder or its name on the hub, or use tune=heads."


def why_not_tunable(name: str) -> str:
    """Return why the towers of an encoder cannot be trained; empty if they can. Nothing is opened."""
    if name in BUILT_IN:
        return f"encoder {name!r} is packaged for inference and cannot be tuned"
    if name.startswith(_OPENVINO):
        return f"encoder {name!r} is executed by OpenVINO, which cannot train it"
    return ""


def about_encoder(name: str) -> dict[str, Any]:
    """Return what a run and a checkpoint record about an encoder; empty for the built-in ones."""
    return {} if name in BUILT_IN or name in TOWERS else dict(encoder_pair(name).about)


def absolute(name: str) -> str:
    """Return an encoder's name with its path as an absolute one; a name without a path is unchanged."""
    if name in BUILT_IN:
        return name
    for prefix in (_OPENVINO, _OPENCLIP):
        if name.startswith(prefix):
            return prefix + absolute(name.removeprefix(prefix))
    head, colon, path = name.rpartition(":")
    if Path(name).expanduser().exists() or not colon:
        head, colon, path = "", "", name
    is_path = path.startswith(("/", "~", ".")) or Path(path).expanduser().exists()
    return head + colon + (str(Path(path).expanduser().resolve()) if path and is_path else path)


def check_encoder(name: str) -> None:
    """Refuse a name that no encoder can have, before a job begins; nothing is opened or downloaded.

    Raises
    ------
    BadInput
        The name has none of the forms, the folder is missing or has no weights that can be used, or a package
        is missing.
    """
    from adapters.vlm_quantization.towers import weights

    if name in BUILT_IN:
        return
    if name.startswith(_OPENVINO):
        _need("openvino", "openvino")
        check_encoder(name.removeprefix(_OPENVINO))
        return
    if name.startswith(_OPENCLIP):
        from adapters.vlm_quantization.towers.openclip import split_name

        _need("open_clip", "openclip")
        architecture, source = split_name(name)
        if not architecture and weights.is_folder_name(source):
            weights.check_folder(weights.find_folder(source)[0])
        return
    _refuse_unknown(name)
    if weights.is_folder_name(name):
        folder, _ = weights.find_folder(name)
        weights.check_folder(folder)
        if (folder / "open_clip_config.json").is_file():
            _need("open_clip", "openclip")
            return
    _need("transformers", "transformers")


def _refuse_unknown(name: str) -> None:
    from adapters.vlm_quantization.towers.weights import HUB_NAME

    looks_like_path = name.startswith(("/", "~", ".")) or Path(name).expanduser().is_dir()
    if not looks_like_path and not HUB_NAME.fullmatch(name):
        raise BadInput(f"unknown encoder {name!r}", hint=f"An encoder is {FORMS}.")


def _need(package: str, extra: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise MissingExtra(package, extra)


def _state(name: str) -> tuple[Any, ...]:
    """Return what changes when the files of a model do."""
    from adapters.vlm_quantization.towers import weights

    if name in BUILT_IN:
        return ()
    if not name.startswith(_OPENCLIP):
        _refuse_unknown(name)
        return weights.state_of(name)
    from adapters.vlm_quantization.towers.openclip import split_name

    architecture, source = split_name(name)
    if not architecture:
        return weights.state_of(source)
    path = Path(source).expanduser()
    return (path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else ()


@lru_cache(maxsize=KEPT_OPEN)
def _opened(name: str, *_: Any) -> EncoderPair:
    from adapters.vlm_quantization.towers import openclip, weights
    from adapters.vlm_quantization.towers.pretrained import open_pretrained

    if name.startswith(_OPENCLIP):
        return openclip.open_openclip(name)
    if weights.is_folder_name(name) and (weights.find_folder(name)[0] / openclip.CONFIG).is_file():
        return openclip.open_openclip(name)
    return open_pretrained(name)


@lru_cache(maxsize=KEPT_OPEN)
def _executed(name: str, *_: Any) -> EncoderPair:
    from adapters.vlm_quantization.towers.openvino import SAMPLE_TEXTS, OpenVinoTower, sample_pictures
    from adapters.vlm_quantization.towers.torch_tower import TorchTower

    inner = encoder_pair(name.removeprefix(_OPENVINO))
    if not isinstance(inner.image, TorchTower):
        raise BadInput(
            f"encoder {inner.name!r} has no network that OpenVINO could execute",
            hint=f"Leave out {_OPENVINO!r}.",
        )
    image = OpenVinoTower(inner.image, sample_pictures())
    text: Any = inner.text
    executed = {"pictures": image.about()}
    if isinstance(text, TorchTower):
        text = OpenVinoTower(text, SAMPLE_TEXTS)
        executed["texts"] = text.about()
    return EncoderPair(name, image, text, inner.aligned, {**inner.about, "openvino": executed})
