"""A minimal adapter: it counts, and it searches words by shared letters."""

import json
import time
from pathlib import Path

from pydantic import Field

import workbench as wb


class Options(wb.Options):
    steps: int = 3
    k: int = 3
    run: int | None = None
    name: str = "words"
    fail: str = ""
    seconds: float = 0


class SearchOptions(wb.Options):
    filter: str = Field("", title="Filter", json_schema_extra={"format": "filter"})


class Toy(wb.BaseAdapter):
    name, title = "toy", "A toy that counts"
    metrics = (wb.Metric("loss", better="lower"), wb.Metric("R@*", better="higher", format=".2f"))

    def options(self, task):
        schemas = {**dict.fromkeys((*self.job_types(), "quick_index"), Options), "search": SearchOptions}
        return schemas.get(task) or super().options(task)

    def train(self, options, job):
        with job.start_run("counting") as run:
            for step in range(options.steps):
                run.log({"loss": 1 / (step + 1)}, step=step)
                job.progress(step + 1, options.steps, "counting")
            print("셋까지 counted")
            (path := Path(job.workspace.cache, "model.txt")).write_text("counted")
            run.log_checkpoint("model.txt", path)
        return wb.Result(summary=f"counted to {options.steps}", made={"run": run.id})

    def evaluate(self, options, job):
        until = time.monotonic() + options.seconds
        while time.monotonic() < until:
            job.progress(1, 4, "waiting")
            time.sleep(0.02)
        if options.fail:
            raise ValueError(options.fail)
        rows = [{"k": k, "R": k / 10} for k in range(1, options.k + 1)]
        columns = [{"key": "k", "label": "k"}, {"key": "R", "label": "R@k", "better": "higher"}]
        line = {"x_label": "k", "y_label": "R@k", "x": [row["k"] for row in rows]}
        series = [{"name": "toy", "y": [row["R"] for row in rows]}]
        table = wb.View(kind="retrieval_table", title="Recall", data={"columns": columns, "rows": rows})
        curve = wb.View(kind="curve", title="Recall by k", data={**line, "series": series})
        # Three points are no curve yet: most jobs draw none, which would take longer than all else here.
        views = [table, curve] if options.k > 3 else [table]
        return wb.Result(summary="measured", metrics={f"R@{options.k}": options.k / 10}, views=views)

    def build_index(self, options, job):
        (folder := Path(job.workspace.indexes, options.name)).mkdir(exist_ok=True)
        words = ["dog", "dot", "pizza", "강아지", "강"]
        (folder / "manifest.json").write_text(json.dumps({"adapter": "toy", "words": words}))
        return wb.Result(summary=f"{len(words)} words", made={"index": options.name})

    def quick_index(self, source, options):
        return {"name": options.name}

    def load_index(self, path):
        self.files = path / "files"
        return json.loads((path / "manifest.json").read_text())["words"]

    def filter_fields(self, index):
        return [wb.FilterField("letter", values=[("d", 2), ("강", 2)], more=True)]

    def filtered(self, index, text):
        if not text:
            return index
        tree = wb.parse_filter(text)
        for one in tree.conditions():
            if one.field != "letter":
                problem = f"unknown field {one.field!r}"
                raise tree.unknown(problem, one.field, one.at, what="Fields", known=["letter"])
        # numbers of one binary digit have the operators of sets
        return [
            word
            for word in index
            if tree.combine(lambda one, word=word: -any(value.text in word for value in one.values))
        ]

    def search_by_text(self, index, query, k, options):
        index = self.filtered(index, options.filter)
        scores = {word: len(set(word) & set(query)) / len(set(word) | set(query)) for word in index}
        best = sorted(index, key=lambda word: (-scores[word], word))
        hits = [wb.Hit(word, scores[word], caption=word, path=f"/words/{word}.txt") for word in best[:k]]
        return wb.SearchResult(hits)

    def search_by_image(self, index, data, k, options):
        return self.search_by_text(index, data.decode(errors="ignore"), k, options)

    def explain(self, index, left, right, options):
        sides = []
        for term in (left, right):
            if term.by == "item" and term.value not in index:
                raise wb.NotFound(f"no item {term.value!r}")
            text = term.value.decode(errors="ignore") if term.by == "image" else term.value
            sides.append(wb.Side(by=term.by, caption=text, id=term.value if term.by == "item" else ""))
        letters = sorted(set(sides[0].caption) | set(sides[1].caption))
        cells = ["".join("x" if one in side.caption else "." for one in letters) for side in sides]
        row = {"name": "".join(letters), "left": cells[0], "right": cells[1]}
        data = {"labels": [side.caption for side in sides], "rows": [row]}
        shared = sum(one == two == "x" for one, two in zip(*cells, strict=True))
        view = wb.View(kind="cells", title="Letters", data=data)
        summary = f"{shared} of {len(letters)} letters are in both"
        return wb.Explanation(summary=summary, left=sides[0], right=sides[1], views=[view])

    def item_file(self, index, item_id):
        if item_id not in index:
            raise wb.NotFound(f"no item {item_id!r}")
        path = self.files / f"{item_id}.jpg"
        if not path.is_file():
            raise wb.NotFound(f"the file of item {item_id!r} is missing")
        return path

    def sample_items(self, index, count):
        return [wb.Hit(word, 1.0, caption=word, thumbnail=b"\x89PNG " + word.encode()) for word in index[:2]]

    def sample_queries(self, index):
        return (wb.SampleQuery("dog", "en"), wb.SampleQuery("강아지", "ko"))

    def check_data(self, source, folder, *, thorough=False, progress=None):
        if source != "words":
            raise wb.BadInput(f"no source {source!r}", hint="Its only source is 'words'.")
        rows = [{"name": "words", "value": 3}]
        view = wb.View(kind="metrics_table", title="What it holds", data={"rows": rows})
        if progress:
            progress(3, 3, "counting")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "all.txt").write_text("dog\n")
        made = {"all": str(folder / "all.txt"), "options": {"train": {"name": "words"}}}
        return wb.Result(summary="3 words", metrics={"words": 3}, views=[view], made=made)

    def demo(self):
        return {"train": {}, "eval": {"run": "$train.run", "k": 4}, "index_build": {}}


adapter = Toy()
