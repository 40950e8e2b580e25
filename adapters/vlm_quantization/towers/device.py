"""Where networks are computed: on the CPU, on a CUDA device, or on Apple's MPS."""

from __future__ import annotations

from typing import Any, Literal

from adapters.vlm_quantization.towers.torch_tower import TorchTower
from workbench import BadInput

Device = Literal["auto", "cpu", "cuda", "mps"]


#: What to compute on where nothing is named, the first that is there.
PREFERRED = ("cuda", "mps", "cpu")


def available_devices() -> tuple[str, ...]:
    """Return the devices of this machine that torch can use, the preferred first; ``cpu`` is always there."""
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return tuple(name for name in PREFERRED if there[name])


def chosen_device(name: str) -> str:
    """Return the device that an option names; ``auto`` is the first of :data:`PREFERRED` that is there.

    Raises
    ------
    BadInput
        This machine has no such device, or the installed torch cannot use it.
    """
    there = available_devices()
    if name == "auto":
        return there[0]
    if name in there:
        return name
    raise BadInput(
        f"device={name!r} is not available here; available: {', '.join(there)}",
        hint="Use device=auto, or one of these."
        + (" A CUDA build of torch and a driver are needed for cuda." if name == "cuda" else ""),
    )


def place(tower: Any, device: str) -> Any:
    """Let a tower compute on a device, and return it; towers without a torch network stay on the CPU."""
    if isinstance(tower, TorchTower):
        tower.device = device
    return tower


def use_device(encoder: Any, options: Any) -> Any:
    """Let an opened model compute where a job's options say, and return it.

    Raises
    ------
    BadInput
        As for :func:`chosen_device`.
    """
    if hasattr(encoder, "device") and hasattr(options, "device"):
        encoder.device = chosen_device(options.device)
    return encoder
