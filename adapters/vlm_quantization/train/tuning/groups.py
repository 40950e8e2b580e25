"""Which parameters of a tower are trained, and at what rate: by side, by layer, and with or without decay."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch.nn import Parameter

#: The number of a layer in a parameter's name, as transformers and OpenCLIP write it.
_LAYER = re.compile(r"(?:^|\.)(?:layers?|resblocks|blocks|stages)\.(\d+)\.")


#: What comes before the first layer.
_FIRST = re.compile(r"embed|(?:^|\.)conv1\.|(?:^|\.)stem\.|ln_pre|pre_layer?norm|pre_layrnorm")


def depths(names: Iterable[str]) -> dict[str, int]:
    """Return the depth of each parameter of one tower: 0 for embeddings, layers from 1, then what follows."""
    names = list(names)
    layers = {name: int(found[1]) + 1 for name in names if (found := _LAYER.search(name))}
    last = max(layers.values(), default=0) + 1
    return {name: layers.get(name, 0 if _FIRST.search(name) else last) for name in names}


def used_parameters(network: Any, inputs: Mapping[str, Any]) -> dict[str, Parameter]:
    """Return the parameters of a two-tower model that the vectors of one tower depend on, by their names.

    A gradient says it: no list of names would fit every architecture.

    Parameters
    ----------
    network : torch.nn.Module
        One half of the model, which is its attribute ``model``.
    inputs : mapping of str to Tensor
        Of one item.
    """
    import torch

    named = dict(network.model.named_parameters())
    with torch.enable_grad():
        vectors = network(*inputs.values())
        # a sum of squares would be constant on unit vectors
        weights = torch.linspace(-1, 1, vectors.shape[1], device=vectors.device)
        found = torch.autograd.grad((vectors * weights).sum(), list(named.values()), allow_unused=True)
    return {name: value for (name, value), grad in zip(named.items(), found, strict=True) if grad is not None}


def parameter_groups(
    named: Mapping[str, Parameter], rate: float, decay: float, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Return optimiser groups of one tower, one per layer and kind.

    The peak rate of a layer is ``rate * layer_decay ** (layers behind it)``. Biases, norms and other
    parameters of fewer than two dimensions have no weight decay.

    Parameters
    ----------
    named : mapping of str to Parameter
    rate : float
        Peak learning rate of what follows the last layer.
    decay : float
        Weight decay.
    layer_decay : float
        In (0, 1]; 1: every layer has the same rate.
    """
    depth = depths(named)
    top = max(depth.values(), default=0)
    groups: dict[tuple[float, float], list[Parameter]] = {}
    for name, parameter in named.items():
        own = rate * layer_decay ** (top - depth[name])
        groups.setdefault((own, decay if parameter.ndim > 1 else 0.0), []).append(parameter)
    return [{"params": params, "lr": lr, "weight_decay": wd} for (lr, wd), params in groups.items()]
