"""The state of a training on disk, from which a killed one goes on to the same weights."""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from adapters.vlm_quantization.encoding.tensor_file import write_tensors
from workbench import CorruptFile

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from torch import Tensor

#: Format name in the file's metadata.
FORMAT = "training-state/1"


#: Days after which the state of a training that nobody resumed is deleted.
KEPT_DAYS = 14


@dataclass(frozen=True)
class State:
    """A saved state.

    Attributes
    ----------
    about : dict
        JSON data: where the training was, and what it trained on.
    tensors : dict of str to Tensor
        Weights, moments of the optimiser, states of random generators; empty if the training had ended.
    """

    about: dict[str, Any]
    tensors: dict[str, Tensor]


class StateFile:
    """The file that a training's state is saved to, whole or not at all.

    Parameters
    ----------
    path : Path
    every : float
        Seconds between two states; 0: after every step.
    before : callable, optional
        Called before a state is saved, so that what was logged until then is on disk too.
    """

    def __init__(self, path: Path, every: float = 60.0, before: Callable[[], object] | None = None) -> None:
        self.path = path
        self._every, self._before = every, before
        self._last = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time to save the next state."""
        return time.monotonic() - self._last >= self._every

    def save(self, about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Replace the saved state: written beside it, synced, and renamed."""
        if self._before:
            self._before()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
        try:
            write_tensors(temporary, arrays, {"format": FORMAT, "about": json.dumps(about)})
            temporary.replace(self.path)
        finally:
            temporary.unlink(missing_ok=True)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._last = time.monotonic()


def read_state(path: Path) -> State:
    """Read a saved state; nothing is unpickled.

    Raises
    ------
    CorruptFile
        The file is missing, damaged, or of another format.
    """
    from safetensors import SafetensorError, safe_open

    hint = "Train again without resume."
    if not path.is_file():
        raise CorruptFile(path, "no such file", hint=hint)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise CorruptFile(path, f"format {metadata.get('format')!r}, not {FORMAT!r}", hint=hint)
            about = json.loads(metadata["about"])
            # copies: the library's own tensors lie in the file, which the next state replaces
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    # RuntimeError: torch maps the file again, and another one may have replaced it meanwhile
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise CorruptFile(path, f"not a readable state of a training ({error})", hint=hint) from None
    return State(about, tensors)


def state_path(workspace: Path, run_id: int) -> Path:
    """Return where the state of a run's training is saved: not in the cache, since nothing makes it again."""
    return workspace / "training" / f"run-{run_id}.safetensors"


def remove_old_states(workspace: Path, known: Callable[[], Collection[int]]) -> None:
    """Delete states of runs that are gone, and those that are older than :data:`KEPT_DAYS`.

    ``known`` returns the ids of all runs; it is asked only if there is a state.
    """
    files = {number: state_path(workspace, number) for number in saved_runs(workspace)}
    ids = known() if files else ()
    for number, file in files.items():
        if number not in ids or file.stat().st_mtime < time.time() - KEPT_DAYS * 86_400:
            file.unlink(missing_ok=True)


def saved_runs(workspace: Path) -> list[int]:
    """Return the ids of the runs that left a state, the newest first."""
    names = (file.stem for file in (workspace / "training").glob("run-*.safetensors"))
    return sorted((int(name[4:]) for name in names if re.fullmatch(r"run-\d+", name)), reverse=True)


def optimiser_state(optimiser: torch.optim.Optimizer) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """Return the settings of an optimiser's groups, JSON data, and its moments by number and name."""
    state = optimiser.state_dict()
    moments = {
        f"{number}/{name}": value
        for number, values in state["state"].items()
        for name, value in values.items()
    }
    return state["param_groups"], moments


def restore_optimiser(
    optimiser: torch.optim.Optimizer, groups: list[dict[str, Any]], moments: Mapping[str, Tensor]
) -> None:
    """Set an optimiser to what :func:`optimiser_state` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in moments.items():
        number, name = key.split("/", 1)
        state.setdefault(int(number), {})[name] = value
    fixed = [{**group, "betas": tuple(group["betas"])} for group in groups]
    optimiser.load_state_dict({"state": state, "param_groups": fixed})


def random_states(device: str) -> dict[str, Tensor]:
    """Return the states of torch's random generators."""
    states = {"cpu": torch.get_rng_state()}
    if device == "cuda":
        states["cuda"] = torch.cuda.get_rng_state()
    elif device == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def restore_random_states(states: Mapping[str, Tensor]) -> None:
    """Set torch's random generators to what :func:`random_states` returned."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"])
    if "mps" in states:
        torch.mps.set_rng_state(states["mps"])


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose name begins with ``prefix/``, without it."""
    start = f"{prefix}/"
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
