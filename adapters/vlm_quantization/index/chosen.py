"""Which codes an index gets: those of a trained run, or fitted ones that need no training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from adapters.vlm_quantization.encoding.checkpoint import BEST
from adapters.vlm_quantization.index.job import choose_published, published
from adapters.vlm_quantization.job_inputs import checkpoint_names, collection_of, family_of
from adapters.vlm_quantization.towers import registry
from workbench import BadInput

if TYPE_CHECKING:
    from adapters.vlm_quantization.job_inputs import Family
    from adapters.vlm_quantization.options import IndexOptions
    from workbench import Run, WorkspaceView


@dataclass(frozen=True)
class Chosen:
    """The codes of an index.

    Attributes
    ----------
    run, checkpoint : Run or None, str
        The run and its checkpoint, if the codes are trained.
    method : {"trained", "itq", "sign"}
    encoder : str
        Name of the encoder; empty if the run does not say.
    source : str
        Name or path of the collection.
    """

    run: Run | None
    checkpoint: str
    method: Literal["trained", "itq", "sign"]
    encoder: str
    source: str


def choose_codes(workspace: WorkspaceView, options: IndexOptions, family: Family) -> Chosen:
    """Choose a trained run where one fits, else codes that are fitted to the pictures themselves.

    A run fits if it has a checkpoint and the encoder that is asked for; of several, the newest that was
    trained on the same collection, or else the newest.

    Raises
    ------
    BadInput
        The options contradict each other, or neither a run nor a collection is there.
    UnknownRun
        No run has that id.
    """
    asks = options.run is not None or bool(options.checkpoint)
    if options.codes in ("itq", "sign"):
        if asks:
            raise BadInput(
                f"codes={options.codes} are fitted, not trained: leave out run and checkpoint",
                hint="Or use codes=trained.",
            )
        return _fitted(options)
    if asks or not (options.encoder or options.collection):
        run, checkpoint = choose_published(workspace, options.run, options.checkpoint, family)
        if options.encoder and encoder_of(run) not in ("", options.encoder):
            raise BadInput(
                f"run {run.id} was trained with encoder {encoder_of(run)!r}, not {options.encoder!r}",
                hint="Leave out the encoder, or the run.",
            )
        return _trained(run, checkpoint, options)
    fitting = _fitting_run(workspace, options, family)
    if fitting is not None:
        return _trained(fitting, published(fitting), options)
    if options.codes == "trained":
        of = f" of encoder {options.encoder!r}" if options.encoder else ""
        raise BadInput(f"no run{of} has a checkpoint yet", hint="Train one first, or use codes=itq.")
    return _fitted(options)


def _trained(run: Run, checkpoint: str, options: IndexOptions) -> Chosen:
    return Chosen(run, checkpoint, "trained", encoder_of(run), options.collection or collection_of(run))


def _fitted(options: IndexOptions) -> Chosen:
    if not options.collection:
        raise BadInput(
            "no collection is named, and no run whose collection could be used",
            hint="Name the pictures to index, or train a model first.",
        )
    method: Literal["itq", "sign"] = "sign" if options.codes == "sign" else "itq"
    return Chosen(None, "", method, options.encoder or registry.PACKAGED, options.collection)


def _fitting_run(workspace: WorkspaceView, options: IndexOptions, family: Family) -> Run | None:
    """Return the newest run of the encoder, preferably one of the same collection; None if there is none."""
    fitting = [
        run
        for run in workspace.runs()
        if family_of(run) == family.name
        and BEST in checkpoint_names(run)
        and "split_seed" in run.config
        and options.encoder in ("", encoder_of(run))
    ]
    same = [run for run in fitting if options.collection in ("", run.config.get("collection"))]
    return next(iter(same or fitting), None)


def encoder_of(run: Run) -> str:
    """Return the name of the encoder that a run was trained with; empty if its settings name none."""
    encoder = run.config.get("encoder")
    if isinstance(encoder, str):
        return encoder
    tower = run.config.get("image_tower")  # of earlier versions
    return registry.PACKAGED if tower == "efficientnet-lite0" else str(tower or "")
