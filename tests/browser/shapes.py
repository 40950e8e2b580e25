"""An adapter whose index holds pictures of coloured shapes, named in English and Korean."""

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from PIL import Image, ImageDraw
from pydantic import Field

import workbench as wb

NAMES = {
    "dog": "강아지", "heart": "하트", "pizza": "피자", "rain": "비", "face": "얼굴", "airplane": "비행기",
    "a name so long that no card on any page could ever show the whole of it": "아주 긴 이름",
}  # fmt: skip
COLOURS = ("#8d5a2b", "#c62828", "#f9a825", "#1565c0", "#fdd835", "#78909c", "#6a1b9a")


class SearchOptions(wb.Options):
    length: Literal[8, 64] = Field(64, title="Code length")
    find: Literal["pictures", "captions"] = Field(
        "pictures",
        title="Find",
        json_schema_extra={"x-labels": {"pictures": "Pictures", "captions": "Captions"}},
    )


class IndexOptions(wb.Options):
    name: str = "shapes"


def draw(colour: str) -> bytes:
    picture = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(picture).ellipse((8, 8, 56, 56), fill=colour)
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def mean_colour(data: bytes) -> tuple[int, int, int]:
    try:
        return (
            Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP"))
            .convert("RGB")
            .resize((1, 1))
            .getpixel((0, 0))
        )
    except OSError:
        raise wb.BadInput("this is not a picture", hint="Use a PNG, JPEG or WebP picture.") from None


class Shapes(wb.BaseAdapter):
    name, title = "shapes", "Coloured shapes"

    def options(self, task: str) -> type[wb.Options]:
        return {"index_build": IndexOptions, "search": SearchOptions}[task]

    def build_index(self, options: IndexOptions, job: wb.JobContext) -> wb.Result:
        make_index(Path(job.workspace.indexes) / options.name)
        return wb.Result(summary=f"{len(NAMES)} shapes", made={"index": options.name})

    def load_index(self, path: Path) -> dict[str, bytes]:
        return {name: draw(colour) for name, colour in zip(NAMES, COLOURS, strict=True)}

    def describe_index(self, index: dict[str, bytes]) -> dict[str, object]:
        return {
            "title": "Shape search",
            "subtitle": "7 shapes · English or 한국어",
            "credits": ["Drawn for the tests."],
        }

    def _ranked(
        self, index: dict[str, bytes], scores: dict[str, float], k: int, options: SearchOptions
    ) -> wb.SearchResult:
        # A short code returns fewer hits: it drops the ones with low scores.
        kept = [
            name
            for name in sorted(index, key=lambda name: (-scores[name], name))
            if options.length == 64 or scores[name] > 0.2
        ]
        hits = [
            wb.Hit(
                id=name,
                score=scores[name],
                caption=name,
                subtitle=NAMES[name],
                thumbnail=index[name] if options.find == "pictures" else None,
                label=f"{round((1 - scores[name]) * options.length)}/{options.length}",
                meter=scores[name],
            )
            for name in kept[:k]
        ]  # fmt: skip
        return wb.SearchResult(
            hits, {"encode": 0.2, "search": 0.1}, cutoff=sum(scores[name] > 0.5 for name in kept)
        )

    def search_by_text(
        self, index: dict[str, bytes], query: str, k: int, options: SearchOptions
    ) -> wb.SearchResult:
        if query == "boom":
            raise RuntimeError("a secret of the machine")

        def score(name: str) -> float:
            return max(
                len(set(word) & set(query)) / len(set(word) | set(query)) for word in (name, NAMES[name])
            )

        return self._ranked(index, {name: score(name) for name in index}, k, options)

    def search_by_image(
        self, index: dict[str, bytes], data: bytes, k: int, options: SearchOptions
    ) -> wb.SearchResult:
        colour = mean_colour(data)
        far = {
            name: sum(abs(a - b) for a, b in zip(mean_colour(index[name]), colour, strict=True))
            for name in index
        }
        return self._ranked(index, {name: 1 - far[name] / 765 for name in index}, k, options)

    def search_by_item(
        self, index: dict[str, bytes], item_id: str, k: int, options: SearchOptions
    ) -> wb.SearchResult:
        return self.search_by_image(index, index[item_id], k, options)

    def explain(
        self, index: dict[str, bytes], left: wb.Term, right: wb.Term, options: SearchOptions
    ) -> wb.Explanation:
        if right.value == "rain":
            raise wb.BadInput("rain is not explained", hint="Take another.")
        picture = base64.b64encode(index[right.value]).decode()
        rows = [
            {"name": "1 to 8", "left": "00110011", "right": "01110011", "note": "distance: 1"},
            {"name": "9 to 72", "left": "0" * 64, "right": "0" * 63 + "1"},
        ]
        data = {"labels": ["<i>left</i>", "right"], "rows": rows}
        return wb.Explanation(
            summary=f"2 of {options.length} differ",
            left=wb.Side(by=left.by, caption=f"<i>{left.value if left.by == 'text' else left.name}</i>"),
            right=wb.Side(by="item", caption=right.value, id=right.value, thumbnail=picture),
            views=[wb.View(kind="cells", title="Codes", data=data)],
        )

    def sample_queries(self, index: dict[str, bytes]) -> Sequence[wb.SampleQuery]:
        return (wb.SampleQuery("dog", "en"), wb.SampleQuery("강아지", "ko"), wb.SampleQuery("피자", "ko"))


def make_index(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"adapter": "shapes"}))


adapter = Shapes()
