"""How good the learned codes are: the table of the README, made again from nothing.

Trains the demo's configuration with several seeds, and beside it on the same split and features

- float cosine of the same model, and its codes' shortlist put in order by the floats,
- ITQ (Gong & Lazebnik, CVPR 2011) fitted on the training pictures and texts of the same float model,
- codes trained for one length alone,

and asks the refit, which a page publishes, the everyday queries of
``tests/benchmarks/everyday_queries.json`` and the words of
``tests/benchmarks/other_languages.json``. Nothing here chooses anything. Every training is a run of the
workspace given; a second call trains only what is missing there. From the repository, on a quiet machine
(five seeds are 25 trainings)::

    .venv/bin/pip install -e ".[demo]"
    .venv/bin/python tests/benchmarks/bench_training.py --workspace /tmp/training --seeds 5
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import workbench as wb
from adapters.vlm_quantization.codes import CODE_LENGTHS, Encoded, pack_codes
from adapters.vlm_quantization.data.emoji.emoji import open_emoji
from adapters.vlm_quantization.data.leakage import check_leakage
from adapters.vlm_quantization.data.splits import Splits, make_splits
from adapters.vlm_quantization.encoding import checkpoint
from adapters.vlm_quantization.encoding.encoder import HashEncoder
from adapters.vlm_quantization.metrics.evaluator import evaluate_codes, evaluate_scores
from adapters.vlm_quantization.metrics.relevance import SameItem
from adapters.vlm_quantization.options import TrainOptions
from adapters.vlm_quantization.towers.features import picture_features, remembered_texts
from adapters.vlm_quantization.towers.registry import image_name, image_tower, text_tower
from adapters.vlm_quantization.train import train, validation

QUERIES = Path(__file__).parent / "everyday_queries.json"

#: Ten words in each of thirteen languages that the demo's collection has no captions in.
OTHER_LANGUAGES = Path(__file__).parent / "other_languages.json"

#: Pictures that are put in order by their floats after the codes have chosen them.
SHORTLIST = 100

#: Half widths of a two-sided 95 % interval of Student's t, by degrees of freedom.
T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


class Bench:
    """The collection, its split, and a workspace whose runs are the trainings."""

    def __init__(self, workspace: wb.Workspace, changes: dict[str, Any]) -> None:
        self.workspace = workspace
        self.changes = changes
        self.collection = open_emoji(workspace.cache)
        self.splits: Splits = make_splits(self.collection, 0)
        check_leakage(self.collection, self.splits)
        tower = image_tower(image_name(TrainOptions().encoder))
        self.tower = tower.fingerprint
        self.features = picture_features(self.collection, tower, workspace.cache)
        frozen = train.frozen_texts(TrainOptions.model_validate(changes))
        self.texts = (
            remembered_texts(self.collection, text_tower(frozen), workspace.cache) if frozen else None
        )

    def trained(self, seed: int, lengths: tuple[int, ...] = CODE_LENGTHS) -> Path:
        """Return the folder of checkpoints of a training, which is done if the workspace has none like it."""
        nested = lengths == CODE_LENGTHS
        extra = self.changes | {"lengths": lengths, "seed": seed} | ({} if nested else {"refit_steps": 0})
        options = TrainOptions.model_validate(extra)
        name = f"{'nested' if nested else f'only-{lengths[0]}'}-s{seed}"
        config = options.model_dump(mode="json") | {"name": name, "tower": self.tower}
        for run in self.workspace.runs():
            if (run.name, run.status, run.config) == (name, "succeeded", config):
                return run.checkpoint_dir
        with self.workspace.start_run("bench-training", name=name, config=config) as run:
            started = time.process_time()
            done = train.train(
                self.collection,
                self.splits,
                self.features,
                self.tower,
                options,
                run,
                lambda *_: None,
                self.texts,
            )
            run.log({"bench/cpu_seconds": time.process_time() - started, "bench/seconds": done.seconds})
        print(f"  trained {name}: best at step {done.best_step}, {done.seconds:.0f} s", flush=True)
        return run.checkpoint_dir

    def measure(
        self, encoder: HashEncoder, itq_seed: int | None = None, part: str = "test_drawings"
    ) -> dict[str, float]:
        """Return R@10 text → image on a held-out part, by ``language method length``."""
        rows = getattr(self.splits, part)
        pictures = encoder.encode_features(self.features[rows])
        shown = [self.collection.items[row].concept for row in rows]
        fits = {} if itq_seed is None else self._itq(encoder, itq_seed)
        out: dict[str, float] = {}
        for language in self.collection.languages:
            texts, concepts = validation.caption_queries(self.collection, rows, language)
            said = encoder.encode_texts(texts, self.texts)
            relevance = SameItem(concepts, shown)
            out[f"{language} float"] = _recall(evaluate_scores(said.features, pictures.features, relevance))
            for length in CODE_LENGTHS:
                out[f"{language} codes {length}"] = _codes(said.codes, pictures.codes, relevance, length)
                scores = rescored(said, pictures, length)
                marks = relevant(concepts, shown)
                found = np.take_along_axis(marks, scores[:, :10], 1).sum(1) / marks.sum(1)
                out[f"{language} rescored {length}"] = float(found.mean())
                if length in fits:
                    a, b = fits[length](said.features, "text"), fits[length](pictures.features, "image")
                    out[f"{language} itq {length}"] = _codes(a, b, relevance, length)
        return out

    def _itq(self, encoder: HashEncoder, seed: int) -> dict[int, ITQ]:
        """Fit ITQ at every length on the training pictures and the texts of their concepts."""
        rows = self.splits.train
        pictures = encoder.encode_features(self.features[rows]).features
        texts = [
            text
            for language in self.collection.languages
            for text in validation.caption_queries(self.collection, rows, language)[0]
        ]
        said = encoder.encode_texts(texts, self.texts).features
        return {length: ITQ(pictures, said, length, seed) for length in CODE_LENGTHS}


class ITQ:
    """Iterative quantisation: principal components, then the rotation nearest to their signs, 50 rounds.

    Pictures and texts are each centred by their own training mean (the two lie apart in the space; without
    that its codes are worse), then share components and rotation.
    """

    def __init__(
        self, pictures: NDArray[np.float32], texts: NDArray[np.float32], bits: int, seed: int
    ) -> None:
        self.means = {"image": pictures.mean(0), "text": texts.mean(0)}
        x = np.concatenate([pictures - self.means["image"], texts - self.means["text"]]).astype(np.float64)
        axes = np.linalg.eigh(x.T @ x)[1][:, ::-1][:, :bits]
        v = x @ axes
        rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((bits, bits)))[0]
        for _ in range(50):
            left, _, right = np.linalg.svd(np.where(v @ rotation >= 0, 1.0, -1.0).T @ v)
            rotation = (left @ right).T
        self.axes = axes @ rotation

    def __call__(self, vectors: NDArray[np.float32], side: str) -> NDArray[np.uint8]:
        """Return codes packed into the first bytes of rows of 16."""
        codes = pack_codes((vectors - self.means[side]) @ self.axes >= 0)
        out = np.zeros((len(codes), 16), np.uint8)
        out[:, : codes.shape[1]] = codes
        return out


def nearest(queries: NDArray[np.uint8], codes: NDArray[np.uint8], k: int, bits: int) -> NDArray[np.int64]:
    """Return the rows of the k nearest codes of each query, in the order of (distance, row)."""
    differing = queries[:, None, : bits // 8] ^ codes[None, :, : bits // 8]
    return np.argsort(np.bitwise_count(differing).sum(2, dtype=np.int32), axis=1, kind="stable")[:, :k]


def rescored(said: Encoded, pictures: Encoded, bits: int) -> NDArray[np.int64]:
    """Return for each query the rows of its shortlist by Hamming distance, put in order by cosine."""
    rows = nearest(said.codes, pictures.codes, SHORTLIST, bits)
    cosine = np.einsum("qd,qnd->qn", said.features, pictures.features[rows])
    return np.take_along_axis(rows, np.argsort(-cosine, axis=1, kind="stable"), 1)


def relevant(concepts: list[str], shown: list[str]) -> NDArray[np.bool_]:
    """Return which picture shows which query's concept."""
    return np.array(concepts)[:, None] == np.array(shown)[None]


def everyday(bench: Bench, encoder: HashEncoder, which: str) -> dict[str, bool]:
    """Return for each everyday query whether a right picture is in the top 3 of all pictures at 128 bits."""
    wanted = json.loads(QUERIES.read_text(encoding="utf-8"))[which]
    return answered(bench, encoder, [(one["language"], one["query"], one["right"]) for one in wanted])


def other_languages(bench: Bench, encoder: HashEncoder) -> dict[str, bool]:
    """Return the same for ten words in each of thirteen languages without captions."""
    words = json.loads(OTHER_LANGUAGES.read_text(encoding="utf-8"))
    asked = [
        (language, query, words["right"][word])
        for language, queries in words["queries"].items()
        for word, query in queries.items()
    ]
    return answered(bench, encoder, asked)


def answered(bench: Bench, encoder: HashEncoder, asked: list[tuple[str, str, list[str]]]) -> dict[str, bool]:
    """Return whether a right picture is in the top 3 at 128 bits, by ``language query``."""
    items = bench.collection.items
    order = sorted(range(len(items)), key=lambda row: items[row].id)  # as an index keeps its rows
    codes = encoder.encode_features(bench.features[order]).codes
    out = {}
    for language, query, right in asked:
        rows = nearest(encoder.encode_texts([query]).codes, codes, 3, 128)
        found = [items[order[row]].captions["en"][0] for row in rows[0]]
        out[f"{language} {query}"] = any(name in right for name in found)
    return out


def _option(pair: str) -> tuple[str, Any]:
    """Return name and value of ``K=V``; a list is JSON, such as ``languages=["en"]``."""
    name, _, value = pair.partition("=")
    return name, json.loads(value) if value.startswith("[") else value


def _by_language(by_seed: list[dict[str, bool]]) -> str:
    hits: dict[str, list[bool]] = {}
    for one in by_seed:
        for query, right in one.items():
            hits.setdefault(query.split()[0], []).append(right)
    return ", ".join(f"{language} {np.mean(each):.2f}" for language, each in hits.items())


def _recall(records: list[Any]) -> float:
    return float(next(record.value for record in records if record.name == "R@10"))


def _codes(a: NDArray[np.uint8], b: NDArray[np.uint8], relevance: SameItem, length: int) -> float:
    return _recall(evaluate_codes(a, b, relevance, bits=(length,), ks=(10,)))


def interval(values: list[float]) -> str:
    """Return mean ± half the 95 % t interval over seeds."""
    x = np.array(values)
    half = T95[len(x) - 1] * x.std(ddof=1) / len(x) ** 0.5 if len(x) > 1 else float("nan")
    return f"{x.mean():.3f} ± {half:.3f}"


def table(found: list[dict[str, float]], languages: tuple[str, ...]) -> str:
    """Return the whole comparison as a Markdown table, retention of float included."""
    lines = ["| R@10 | " + " | ".join(map(str, CODE_LENGTHS)) + " | float |", "|---" * 7 + "|"]
    for language in languages:
        for method in ("codes", "rescored", "itq", "only"):
            if not any(name.startswith(f"{language} {method} ") for name in found[0]):
                continue
            cells = []
            for length in CODE_LENGTHS:
                key = f"{language} {method} {length}"
                cells.append(interval([one[key] for one in found]) if key in found[0] else "")
            cells.append(interval([one[f"{language} float"] for one in found]) if method == "codes" else "")
            lines.append(f"| {language} {method} | " + " | ".join(cells) + " |")
        for method in ("codes", "rescored"):
            kept = [
                interval([one[f"{language} {method} {n}"] / one[f"{language} float"] for one in found])
                for n in CODE_LENGTHS
            ]
            lines.append(f"| {language} {method} ÷ float | " + " | ".join(kept) + " | |")
        for other in ("itq", "only"):
            if not any(name.startswith(f"{language} {other} ") for name in found[0]):
                continue
            ahead = [
                interval([one[f"{language} codes {n}"] - one[f"{language} {other} {n}"] for one in found])
                if f"{language} {other} {n}" in found[0]
                else ""
                for n in CODE_LENGTHS
            ]
            lines.append(f"| {language} codes - {other}, by seed | " + " | ".join(ahead) + " | |")
    return "\n".join(lines)


def main() -> None:
    """Train what is missing, measure everything, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--no-single", action="store_true", help="leave the single-length codes out")
    parser.add_argument("--everyday", choices=["known", "fresh", "both", "none"], default="both")
    parser.add_argument(
        "--option", action="append", default=[], metavar="K=V", help="another training option"
    )
    given = parser.parse_args()
    changes = dict(map(_option, given.option))
    with wb.Workspace(given.workspace) as workspace:
        bench = Bench(workspace, changes)
        for seed in range(given.seeds):
            bench.trained(seed)
        found, strange = [], []
        answers: dict[str, list[dict[str, bool]]] = {}
        for seed in range(given.seeds):
            folder = bench.trained(seed)
            encoder = HashEncoder.load(folder / checkpoint.BEST)
            measured = bench.measure(encoder, seed)
            strange.append(bench.measure(encoder, seed, "test_concepts"))
            refit = HashEncoder.load(folder / checkpoint.REFIT)
            if bench.texts is not None and given.everyday != "none":
                answers.setdefault("other languages", []).append(other_languages(bench, refit))
            for length in () if given.no_single else CODE_LENGTHS[:-1]:
                alone = HashEncoder.load(bench.trained(seed, (length,)) / checkpoint.BEST)
                measured |= {
                    name.replace("codes", "only"): value
                    for name, value in bench.measure(alone).items()
                    if name.endswith(f"codes {length}")
                }
            found.append(measured)
            for which in {"both": ("known", "fresh"), "none": ()}.get(given.everyday, (given.everyday,)):
                answers.setdefault(which, []).append(everyday(bench, refit, which))
        for title, one in (("drawings", found), ("concepts", strange)):
            print(f"\nHeld-out {title}, text → image\n")
            print(table(one, bench.collection.languages))
        for which, by_seed in answers.items():
            share = [np.mean(list(one.values())) for one in by_seed]
            print(f"\n{which}: everyday queries answered in the top 3 at 128 bits: {np.mean(share):.3f}")
            print("  by seed:", *(f"{one:.3f}" for one in share))
            if which == "other languages":
                print("  by language:", _by_language(by_seed))
            for query in by_seed[0]:
                right = sum(one[query] for one in by_seed)
                if right < len(by_seed):
                    print(f"  {query}: {right} of {len(by_seed)} seeds")


if __name__ == "__main__":
    main()
