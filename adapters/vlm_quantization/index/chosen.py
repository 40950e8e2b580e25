"""Which codes an index gets: those of a trained run, or fitted ones that need no training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from adapters.vlm_quantization.data.source_text import parse_sources
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
    passed_over : Run or None
        A run of the encoder that was not used, since it was trained on other pictures.
    """

    run: Run | None
    checkpoint: str
    method: Literal["trained", "itq", "sign"]
    encoder: str
    source: str
    passed_over: Run | None = None


def choose_codes(workspace: WorkspaceView, options: IndexOptions, family: Family) -> Chosen:
    """Choose a trained run where one fits, else codes that are fitted to the pictures themselves.

    A run fits if it has a checkpoint and the encoder that is asked for; without one, that of any run. With
    ``codes=auto`` and an encoder it must also have been trained on the collection, alone or with others. On
    photographs, codes of models that were trained on emoji found half as many pictures of the same kind as
    codes that are fitted to the photographs (R@10 at 128 bits; ``tests/benchmarks/bench_quick_codes.py``),
    and a query by text found its picture among the first ten of 289 in one case of six. With
    ``codes=trained`` it may be a run of other pictures. Of several, the newest is taken, preferably of the
    same collection.

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
    wanted = options.codes == "trained" or not options.encoder
    if fitting is not None and (wanted or covers(fitting, options.collection)):
        return _trained(fitting, published(fitting), options)
    if options.codes == "trained":
        of = f" of encoder {options.encoder!r}" if options.encoder else ""
        raise BadInput(f"no run{of} has a checkpoint yet", hint="Train one first, or use codes=itq.")
    return _fitted(options, passed_over=fitting)


def _trained(run: Run, checkpoint: str, options: IndexOptions) -> Chosen:
    return Chosen(run, checkpoint, "trained", encoder_of(run), options.collection or collection_of(run))


def _fitted(options: IndexOptions, *, passed_over: Run | None = None) -> Chosen:
    if not options.collection:
        raise BadInput(
            "no collection is named, and no run whose collection could be used",
            hint="Name the pictures to index, or train a model first.",
        )
    method: Literal["itq", "sign"] = "sign" if options.codes == "sign" else "itq"
    encoder = options.encoder or registry.PACKAGED
    return Chosen(None, "", method, encoder, options.collection, passed_over)


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
    same = [run for run in fitting if covers(run, options.collection)]
    return next(iter(same or fitting), None)


def covers(run: Run, collection: str) -> bool:
    """Return whether a run was trained on a collection, alone or with others; always if none is named."""
    trained_on = run.config.get("collection")
    if not collection or collection == trained_on:
        return True
    if not isinstance(trained_on, str):
        return False
    try:
        return set(map(str, parse_sources(collection))) <= set(map(str, parse_sources(trained_on)))
    except BadInput:  # what no version of this adapter wrote
        return False


def encoder_of(run: Run) -> str:
    """Return the name of the encoder that a run was trained with; empty if its settings name none."""
    encoder = run.config.get("encoder")
    if isinstance(encoder, str):
        return encoder
    tower = run.config.get("image_tower")  # of earlier versions
    return registry.PACKAGED if tower == "efficientnet-lite0" else str(tower or "")
