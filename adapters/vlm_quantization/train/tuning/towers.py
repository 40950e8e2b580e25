"""The towers of an encoder as something that is trained: its parameters, its vectors, what is saved of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from adapters.vlm_quantization.encoding.checkpoint import digest_of
from adapters.vlm_quantization.towers.device import place
from adapters.vlm_quantization.towers.registry import fresh_pair
from adapters.vlm_quantization.towers.torch_tower import TorchTower
from adapters.vlm_quantization.towers.tuned import tuned_fingerprint
from adapters.vlm_quantization.train.tuning.groups import depths, parameter_groups, used_parameters
from adapters.vlm_quantization.train.tuning.lora import add_lora, lora_factors
from workbench import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor
    from torch.nn import Parameter

    from adapters.vlm_quantization.options import TrainOptions

#: What the towers compute in, by the name in the options; their weights stay in float32.
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TrainableTowers:
    """Both towers of an encoder with a network of their own, of which a part is trained.

    Parameters
    ----------
    options : TrainOptions
    device : str
        ``cpu``, ``cuda`` or ``mps``.
    texts : bool
        Whether the model reads texts through this encoder; otherwise its text tower is not trained.

    Attributes
    ----------
    image, text : TorchTower
        ``text`` is None if it is not trained.
    parameters : dict of str to Parameter
        What is trained, by name.
    groups : list of dict
        Their optimiser groups.

    Raises
    ------
    BadInput
        The encoder cannot be tuned, or not as the options say.
    MissingExtra
        A package is missing: that of the encoder, or peft.
    """

    def __init__(self, options: TrainOptions, device: str, *, texts: bool) -> None:
        pair = fresh_pair(options.encoder)
        if not isinstance(pair.image, TorchTower) or not isinstance(pair.text, TorchTower):
            raise BadInput(f"encoder {options.encoder!r} has no torch network that could be tuned")
        self.name, self.device, self.mode = options.encoder, device, options.tune
        self.image: TorchTower[Any] = place(pair.image, device)
        rates = {"image": float(options.tower_lr or 0)}
        if texts and options.text_tower_lr != 0:
            rates["text"] = float(options.text_tower_lr or options.tower_lr or 0)
        self.text: TorchTower[Any] | None = place(pair.text, device) if "text" in rates else None
        self.fingerprints = {"image": self.image.fingerprint}
        if self.text is not None:
            self.fingerprints["text"] = self.text.fingerprint
        self._precision = PRECISIONS[options.precision]
        network = self.image.network().to(device)
        self.model = network.model
        sides = self._sides(options)
        self.model.requires_grad_(False)
        self.parameters: dict[str, Parameter] = {}
        self.groups: list[dict[str, Any]] = []
        if options.tune == "lora":
            allowed = {name for named in sides.values() for name in named}
            factors = add_lora(self.model, allowed, options.lora_rank, options.lora_alpha)
            sides = {
                side: {name: value for name, value in factors.items() if _changed_by(name) in named}
                for side, named in sides.items()
            }
            self.model.to(device)
        for side, named in sides.items():
            self.groups += parameter_groups(
                named, rates[side], options.weight_decay, float(options.layer_decay)
            )
            self.parameters |= named
        for parameter in self.parameters.values():
            parameter.requires_grad_(True)
        if options.gradient_checkpointing:
            self._checkpoint_gradients()

    def _sides(self, options: TrainOptions) -> dict[str, dict[str, Parameter]]:
        """Return the parameters of each trained tower that may be trained."""
        from PIL import Image

        samples: dict[str, Any] = {"image": [Image.new("RGB", (64, 64), (200, 60, 20))]}
        if self.text is not None:
            samples["text"] = ["a red square"]
        out: dict[str, dict[str, Parameter]] = {}
        for side, sample in samples.items():
            tower = self._tower(side)
            named = used_parameters(tower.network(), self.tensors(tower.inputs(sample)))
            depth = depths(named)
            layers = max(depth.values(), default=1) - 1
            if options.frozen_layers > layers:
                raise BadInput(
                    f"frozen_layers={options.frozen_layers}, but the {side} tower of {self.name!r} has "
                    f"{layers} layers",
                    hint="0 freezes nothing; more freezes the embeddings and as many of the first layers.",
                )
            frozen = options.frozen_layers if options.frozen_layers else -1
            out[side] = {name: value for name, value in named.items() if depth[name] > frozen}
        return out

    def _checkpoint_gradients(self) -> None:
        settings = {"use_reentrant": False}
        if hasattr(self.model, "activation_checkpointing_enable"):  # its name in newer transformers
            self.model.activation_checkpointing_enable(settings)
        elif hasattr(self.model, "gradient_checkpointing_enable"):
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=settings)
        elif hasattr(self.model, "set_grad_checkpointing"):
            self.model.set_grad_checkpointing(True)
        else:
            raise BadInput(
                f"encoder {self.name!r} has no gradient checkpointing",
                hint="Set gradient_checkpointing=false.",
            )

    def _tower(self, side: str) -> TorchTower[Any]:
        return self.image if side == "image" else cast("TorchTower[Any]", self.text)

    def tensors(self, values: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
        """Return a network's inputs on the device."""
        return {name: torch.from_numpy(value).to(self.device) for name, value in values.items()}

    def train(self, training: bool = True) -> None:
        """Switch the networks to training or to inference; batch norms keep their statistics in both."""
        self.model.train(training)
        for module in self.model.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()

    def vectors(self, side: str, values: Mapping[str, NDArray[Any]]) -> Tensor:
        """Return unit vectors of a network's inputs, float32, shape (n, dim); with a gradient if it is on."""
        given = self.tensors(values).values()
        mixed = self._precision is not torch.float32
        with torch.autocast(self.device, self._precision if mixed else None, enabled=mixed):
            made: Tensor = self._tower(side).network()(*given)
        return made.float()

    def features(self, side: str, parts: Iterable[Mapping[str, NDArray[Any]]]) -> NDArray[np.float32]:
        """Return unit vectors in float32 for inference, shape (n, dim); the inputs come in parts."""
        self.train(False)
        network = self._tower(side).network()
        with torch.no_grad():
            made = [network(*self.tensors(values).values()).cpu().numpy() for values in parts]
        empty = np.empty((0, self._tower(side).dim), np.float32)
        return np.concatenate(made) if made else empty

    def text_features(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors of texts for inference, float32, shape (n, dim)."""
        tower = self._tower("text")
        parts = (texts[start : start + tower.batch] for start in range(0, len(texts), tower.batch))
        return self.features("text", (tower.inputs(part) for part in parts))

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """Return what a checkpoint keeps: the trained weights, or with LoRA the factors of their change."""
        tensors = lora_factors(self.model) if self.mode == "lora" else self.parameters
        return {name: tensor.detach().cpu().numpy().copy() for name, tensor in tensors.items()}

    def provenance(self, weights: Mapping[str, NDArray[np.float32]]) -> dict[str, Any]:
        """Return the fields of a checkpoint's provenance that say what was tuned, for these weights."""
        digest = digest_of((name, weights[name]) for name in sorted(weights))
        tuned = {"mode": self.mode, "text": "", **self.fingerprints, "weights": digest}
        fields: dict[str, Any] = {
            "tuned": tuned,
            "tower": tuned_fingerprint(self.fingerprints["image"], digest),
        }
        if "text" in self.fingerprints:
            fields["text_tower"] = tuned_fingerprint(self.fingerprints["text"], digest)
        return fields

    def state(self) -> dict[str, Tensor]:
        """Return a copy of the trained parameters, by name."""
        return {name: value.detach().clone() for name, value in self.parameters.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Set the trained parameters to a copy that :meth:`state` made."""
        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(state[name])


class TextsOf:
    """A text tower, as the validation asks it, whose vectors change while it is trained."""

    def __init__(self, towers: TrainableTowers) -> None:
        tower = towers.text
        assert tower is not None  # noqa: S101  # made only then
        self.name, self.dim, self.fingerprint = tower.name, tower.dim, tower.fingerprint
        self.languages = tower.languages
        self.features = towers.text_features


def _changed_by(name: str) -> str:
    """Return the name of the weight that a factor of peft's changes."""
    return name.split(".lora_", 1)[0] + ".weight"
