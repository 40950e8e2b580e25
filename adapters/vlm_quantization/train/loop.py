"""The loop of a training: steps that stop where a number is not finite, and a state to go on from."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from adapters.vlm_quantization.train.finite import MAX_SKIPPED, NotFinite, gradient_norm
from adapters.vlm_quantization.train.optimiser import optimiser_of
from adapters.vlm_quantization.train.state import (
    State,
    StateFile,
    optimiser_state,
    part,
    random_states,
    restore_optimiser,
    restore_random_states,
)
from workbench import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from adapters.vlm_quantization.model import CrossModalHashModel
    from adapters.vlm_quantization.options import TrainOptions
    from adapters.vlm_quantization.train.batches import Batches
    from adapters.vlm_quantization.train.steps import Step
    from adapters.vlm_quantization.train.tuning.towers import TrainableTowers


#: Settings of a schedule that change while it runs.
_SCHEDULE = ("last_epoch", "_step_count", "_last_lr")


@dataclass
class Best:
    """The best model so far, and how training goes on without a better one.

    Attributes
    ----------
    step : int
        Its step; 0: none yet.
    metrics : dict of str to float
        Its validation metrics.
    since : int
        Validations since then.
    weights, towers : dict of str to Tensor
        Its weights, and those of the towers if they are trained.
    """

    step: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    since: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)
    towers: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class StepReport:
    """What one step gave.

    Attributes
    ----------
    step : int
        From 1.
    parts : dict of str to float
        The loss and its terms.
    gradient_norm : float
        Length of the gradient before it was clipped.
    rates : list of float
        Learning rates: of the heads first, then of the groups of the towers.
    per_second : float
        Pictures per second, averaged over the last steps.
    """

    step: int
    parts: dict[str, float]
    gradient_norm: float
    rates: list[float]
    per_second: float


@contextmanager
def _memory_error_explained(
    step: int, options: TrainOptions, towers: TrainableTowers | None
) -> Iterator[None]:
    """Say what to do when a step needs more memory than there is."""
    try:
        yield
    except RuntimeError as error:  # on a device, torch raises a class of its own below it
        full = isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
        if not full:
            raise
        tries = [f"a smaller batch (now {options.batch})"]
        if towers is not None:
            tries.insert(0, f"accumulate={2 * options.accumulate}")
            if not options.gradient_checkpointing:
                tries.append("gradient_checkpointing=true")
            if options.precision == "float32":
                tries.append("precision=bfloat16")
        raise BadInput(
            f"step {step:,} needs more memory than there is", hint=f"Try {', '.join(tries)}."
        ) from None


class Loop:
    """Takes the steps of a training, and saves its state.

    Parameters
    ----------
    model : CrossModalHashModel
    towers : TrainableTowers or None
    device : str
    ids : sequence of str
        Of the collection's items, for errors.
    keeper : StateFile, optional
        Where the state is saved; without it, nothing is.
    identity : mapping
        JSON data: what the training is about; kept with the state.
    """

    def __init__(
        self,
        model: CrossModalHashModel,
        towers: TrainableTowers | None,
        device: str,
        ids: Sequence[str],
        keeper: StateFile | None = None,
        identity: Mapping[str, Any] | None = None,
    ) -> None:
        self.best = Best()
        self.first_steps = 0
        self._model, self._towers, self._device, self._ids = model, towers, device, ids
        self._keeper, self._identity = keeper, dict(identity or {})

    def steps(
        self,
        phase: str,
        step_of: Step,
        batches: Batches,
        options: TrainOptions,
        count: int,
        saved: State | None = None,
    ) -> Iterator[StepReport]:
        """Take steps and yield a report of each; what the caller does with it belongs to the step.

        Parameters
        ----------
        phase : str
            Name of this part of the training, kept with the state.
        step_of : Step
        batches : Batches
        options : TrainOptions
        count : int
            Steps to take.
        saved : State, optional
            Of this phase, to go on from.

        Raises
        ------
        NotFinite
            The loss or a gradient is not finite. The optimiser has not taken that step.
        """
        model, towers = self._model, self._towers
        optimiser, schedule = optimiser_of(self._groups(options), options, count)
        scaler = torch.amp.GradScaler(
            self._device, enabled=towers is not None and options.precision == "float16"
        )
        start, skipped, per_second = 0, 0, 0.0
        if saved is not None:
            start = self._restore(saved, optimiser, schedule, scaler, batches)
        for step in range(start + 1, count + 1):
            began = time.perf_counter()
            model.train()
            if towers is not None:
                towers.train()
            batch = batches.draw()
            optimiser.zero_grad(set_to_none=True)
            with _memory_error_explained(step, options, towers):
                made = step_of.backward(batch, scaler)
            parts = {name: float(value.detach()) for name, value in made.items()}
            items = [self._ids[row] for row in batch.pictures[:, 0].tolist()]
            if not math.isfinite(parts["loss"]):
                raise NotFinite(
                    f"the loss is {parts['loss']}",
                    step,
                    items,
                    suspects=step_of.suspects(batch),
                    hint=self._advice(options),
                )
            scaler.unscale_(optimiser)
            norm = gradient_norm(self._parameters())
            skipped = 0 if math.isfinite(norm) else skipped + 1
            if skipped and (not scaler.is_enabled() or skipped > MAX_SKIPPED):
                raise NotFinite("the gradient is not finite", step, items, hint=self._advice(options))
            if towers is not None and options.clip_gradient and norm > options.clip_gradient:
                torch.nn.utils.clip_grads_with_norm_(
                    self._parameters(), options.clip_gradient, torch.tensor(norm, device=self._device)
                )
            scaler.step(optimiser)
            scaler.update()
            if not skipped:
                schedule.step()
            now = len(items) / max(time.perf_counter() - began, 1e-9)
            per_second = now if not per_second else 0.9 * per_second + 0.1 * now
            yield StepReport(step, parts, norm, [group["lr"] for group in optimiser.param_groups], per_second)
            if self._keeper is not None and self._keeper.due:
                self._save(phase, step, optimiser, schedule, scaler, batches)

    def _groups(self, options: TrainOptions) -> list[dict[str, Any]]:
        rate, towers = options.learning_rate, self._towers
        if towers is None:
            return [{"params": list(self._model.parameters()), "lr": rate}]
        heads = list(self._model.parameters())
        return [
            {"params": [one for one in heads if one.ndim > 1], "lr": rate},
            {"params": [one for one in heads if one.ndim <= 1], "lr": rate, "weight_decay": 0.0},
            *({**group, "params": list(group["params"])} for group in towers.groups),
        ]

    def _parameters(self) -> list[torch.nn.Parameter]:
        own = list(self._model.parameters())
        return own if self._towers is None else own + list(self._towers.parameters.values())

    def _advice(self, options: TrainOptions) -> str:
        tries = ["a lower learning_rate"]
        if self._towers is not None:
            tries.append(f"a lower tower_lr (now {options.tower_lr:g})")
            if options.precision != "float32":
                tries.append(f"precision=float32 instead of {options.precision}")
            if not options.clip_gradient:
                tries.append("clip_gradient=1")
        return f"Try {', '.join(tries)}, or look at these items. The run's last good checkpoint is kept."

    def _save(
        self,
        phase: str,
        step: int,
        optimiser: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        scaler: torch.amp.GradScaler,
        batches: Batches,
    ) -> None:
        assert self._keeper is not None  # noqa: S101  # asked before
        groups, moments = optimiser_state(optimiser)
        best = self.best
        about = {
            **self._identity,
            "phase": phase,
            "step": step,
            "first_steps": self.first_steps,
            "best": {"step": best.step, "metrics": best.metrics, "since": best.since},
            "batches": batches.position,
            "groups": groups,
            "schedule": {name: getattr(schedule, name) for name in _SCHEDULE},
            "scaler": scaler.state_dict(),
        }
        parts: dict[str, Mapping[str, Tensor]] = {
            "model": self._model.state_dict(),
            "towers": {} if self._towers is None else self._towers.parameters,
            "best": best.weights,
            "best_towers": best.towers,
            "moments": moments,
            "random": random_states(self._device),
        }
        tensors = {f"{name}/{key}": value for name, values in parts.items() for key, value in values.items()}
        self._keeper.save(about, tensors)

    def recall(self, saved: State) -> None:
        """Take over the best model and the weights of a saved state."""
        about, tensors = saved.about, saved.tensors
        self.first_steps = int(about["first_steps"])
        self.best = Best(
            int(about["best"]["step"]),
            dict(about["best"]["metrics"]),
            int(about["best"]["since"]),
            self._moved(part(tensors, "best")),
            self._moved(part(tensors, "best_towers")),
        )

    def _restore(
        self,
        saved: State,
        optimiser: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        scaler: torch.amp.GradScaler,
        batches: Batches,
    ) -> int:
        about, tensors = saved.about, saved.tensors
        self._model.load_state_dict(part(tensors, "model"))
        if self._towers is not None:
            self._towers.restore(part(tensors, "towers"))
        restore_optimiser(optimiser, about["groups"], part(tensors, "moments"))
        vars(schedule).update(about["schedule"])
        if about["scaler"]:
            scaler.load_state_dict(about["scaler"])
        batches.position = about["batches"]
        restore_random_states(part(tensors, "random"))
        return int(about["step"])

    def _moved(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.to(self._device) for name, tensor in tensors.items()}
