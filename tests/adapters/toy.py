"""The smallest adapter there is: it counts, and it searches words by the letters they share."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import workbench as wb

WORDS = ("dog", "dot", "red heart", "pizza", "강아지", "강", "빨간 하트")


class TrainOptions(wb.Options):
    steps: int = 5
    fail: str = ""
    seconds: float = 0.0


class EvalOptions(TrainOptions):
    k: int = 3
    run: int | None = None


class IndexOptions(wb.Options):
    name: str = "words"


class SearchOptions(wb.Options):
    exact: bool = False


class Toy(wb.BaseAdapter):
    name, title = "toy", "A toy that counts"
    metrics = (wb.Metric("loss", better="lower"), wb.Metric("R@*", better="higher", format=".2f"))

    def options(self, task: str) -> type[wb.Options]:
        schemas = {"train": TrainOptions, "eval": EvalOptions, "index_build": IndexOptions}
        return {**schemas, "search": SearchOptions}[task]

    def train(self, options: TrainOptions, job: wb.JobContext) -> wb.Result:
        with job.start_run("counting") as run:
            for step in range(options.steps):
                run.log({"loss": 1 / (step + 1)}, step=step)
                job.progress(step + 1, options.steps, "counting")
                print("counted to", step + 1)
            kept = Path(job.workspace.cache) / "model.txt"
            kept.write_text("counted")
            run.log_checkpoint("model.txt", kept)
        return wb.Result(
            summary=f"counted to {options.steps}", metrics={"loss": 1 / options.steps}, made={"run": run.id}
        )

    def evaluate(self, options: EvalOptions, job: wb.JobContext) -> wb.Result:
        deadline = time.monotonic() + options.seconds
        while time.monotonic() < deadline:
            job.progress(0, 1, "waiting to be stopped")
            time.sleep(0.01)
        if options.fail:
            raise ValueError(options.fail)
        columns = [
            {"key": "k", "label": "k"},
            {"key": "R", "label": "R@k", "format": ".2f", "better": "higher"},
        ]
        rows = [{"k": k, "R": k / 10} for k in range(1, options.k + 1)]
        table = wb.View(kind="retrieval_table", title="Recall", data={"columns": columns, "rows": rows})
        line = {"x_label": "k", "y_label": "R@k", "x": [row["k"] for row in rows]}
        curve = wb.View(
            kind="curve",
            title="Recall by k",
            data={**line, "series": [{"name": "toy", "y": [row["R"] for row in rows]}]},
        )
        return wb.Result(summary="measured", metrics={f"R@{options.k}": options.k / 10}, views=[table, curve])

    def build_index(self, options: IndexOptions, job: wb.JobContext) -> wb.Result:
        folder = Path(job.workspace.indexes) / options.name
        folder.mkdir(exist_ok=True)
        (folder / "manifest.json").write_text(json.dumps({"adapter": "toy", "words": WORDS}))
        return wb.Result(summary=f"{len(WORDS)} words", made={"index": options.name})

    def load_index(self, path: Path) -> list[str]:
        return list(json.loads((path / "manifest.json").read_text())["words"])

    def search_by_text(self, index: list[str], query: str, k: int, options: SearchOptions) -> wb.SearchResult:
        scores = {word: len(set(word) & set(query)) / len(set(word) | set(query)) for word in index}
        best = sorted(
            (word for word in index if scores[word] == 1 or not options.exact),
            key=lambda word: (-scores[word], word),
        )
        return wb.SearchResult(
            [wb.Hit(word, scores[word], 1 - scores[word], caption=word) for word in best[:k]]
        )

    def search_by_image(
        self, index: list[str], data: bytes, k: int, options: SearchOptions
    ) -> wb.SearchResult:
        return self.search_by_text(index, data.decode("utf-8", errors="ignore"), k, options)

    def sample_queries(self, index: list[str]) -> Sequence[wb.SampleQuery]:
        return (wb.SampleQuery("dog", "en"), wb.SampleQuery("강아지", "ko"))

    def demo(self) -> Mapping[str, Mapping[str, Any]]:
        return {"train": {"steps": 3}, "eval": {"run": "$train.run"}, "index_build": {}}


adapter = Toy()
