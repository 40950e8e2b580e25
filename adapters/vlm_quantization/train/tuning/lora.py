"""Changes of low rank (LoRA, Hu et al., ICLR 2022) by the peft library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapters.vlm_quantization.towers.torchvision import import_transformers
from adapters.vlm_quantization.towers.tuned import LORA_A, LORA_B
from workbench import BadInput, MissingExtra

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch import Tensor
    from torch.nn import Parameter

#: Name of the adapter in the model.
_NAME = "default"


def linear_modules(model: Any, parameters: Collection[str]) -> list[str]:
    """Return the names of a model's linear maps whose weight is among the named parameters.

    Those inside ``torch.nn.MultiheadAttention`` are left out: it multiplies by their weights itself, so that
    a change beside them would have no effect.
    """
    import torch

    inside = tuple(
        f"{name}."
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.MultiheadAttention)
    )
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and f"{name}.weight" in parameters
        and not name.startswith(inside or ("\0",))
    ]


def add_lora(model: Any, parameters: Collection[str], rank: int, alpha: int) -> dict[str, Parameter]:
    """Add factors of low rank to a model's linear maps, and return them by name; only they are to be trained.

    Parameters
    ----------
    model : torch.nn.Module
        Changed in place. At first the factors change nothing.
    parameters : collection of str
        Names of the model's weights that may be changed.
    rank : int
    alpha : float
        The product of the factors is scaled by ``alpha / rank``.

    Raises
    ------
    MissingExtra
        peft is not installed.
    BadInput
        The model has no linear map that could be changed.
    """
    try:
        import_transformers()  # peft imports it
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise MissingExtra("peft", "lora") from None
    targets = linear_modules(model, parameters)
    if not targets:
        raise BadInput(
            "the encoder has no linear layers that LoRA could change", hint="Use tune=towers, or tune=heads."
        )
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=targets, bias="none")
    inject_adapter_in_model(config, model, adapter_name=_NAME)
    return {name: value for name, value in model.named_parameters() if ".lora_" in name}


def lora_factors(model: Any) -> dict[str, Tensor]:
    """Return the factors of a model's changed weights, by the weight's name with :data:`LORA_A` or LORA_B.

    The scale is in the second factor: the weight is changed by ``b @ a``.
    """
    from peft.tuners.lora import LoraLayer

    out: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            part: Any = module
            out[f"{name}.weight{LORA_A}"] = part.lora_A[_NAME].weight
            out[f"{name}.weight{LORA_B}"] = part.lora_B[_NAME].weight * part.scaling[_NAME]
    return out
