"""The report on how stable codes are: a table, a plot, and a picture under each change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import workbench as wb
from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.data.augmentation import CHANGES
from adapters.vlm_quantization.evaluate.report.worst import encoded_image
from adapters.vlm_quantization.evaluate.stability import TEXTS, TOP
from adapters.vlm_quantization.views import number

if TYPE_CHECKING:
    from adapters.vlm_quantization.evaluate.stability import Stability

TITLE = "How stable the codes are"


#: Changes that the plot shows; a line for each would be unreadable.
DRAWN = ("weak", "strong", "jpeg", "trim", TEXTS)


_KINDS = {
    "view": "view",
    "augmentation": "augmentation",
    "retouching": "retouching",
    "texts": "texts",
}


def stability_views(measured: Stability) -> list[wb.View]:
    """Return the section; where nothing was measured, a table that says why."""
    columns: list[dict[str, Any]] = [
        {"key": "change", "label": "Change"},
        {"key": "kind", "label": "Kind"},
        {"key": "n", "label": "n"},
        {"key": "cosine", "label": "Float cosine", "format": ".3f"},
    ]
    for what, label in (("flips", "Bits that flip"), ("kept", f"Right answer stays in the top {TOP}")):
        columns += [
            {"key": f"{what}{length}", "label": f"{length}", "format": ".1%", "group": label}
            for length in CODE_LENGTHS
        ]
    if not measured.changes:
        none = {"columns": [{"key": "change", "label": "Change"}], "rows": [{"change": "not measured"}]}
        return [wb.View(kind="retrieval_table", title=TITLE, data=none, notes=measured.notes)]
    rows = []
    for change in measured.changes:
        row: dict[str, Any] = {
            "change": change.words.partition(":")[0],
            "kind": _KINDS[change.kind],
            "n": change.n,
            "cosine": number(change.cosine),
        }
        for length in CODE_LENGTHS:
            row[f"flips{length}"] = number(change.flips[length])
            row[f"kept{length}"] = number(change.kept[length])
        rows.append(row)
    notes = [
        "Pictures and texts of the first test part, changed and encoded again. Bits that flip: mean share "
        "of bits that differ from the code before, best 0; two unrelated codes differ in about half. Right "
        f"answer stays: of the queries with a right answer in the top {TOP}, the share that keeps one there "
        "when the query is changed and the gallery is not, over all orders of ties.",
        *measured.notes,
    ]
    views = [
        wb.View(kind="retrieval_table", title=TITLE, data={"columns": columns, "rows": rows}, notes=notes)
    ]
    series = [
        {
            "name": TEXTS.replace("-", " ") if change.name == TEXTS else change.words.partition(":")[0],
            "y": [number(100 * change.flips[length]) for length in CODE_LENGTHS],
            "dashed": change.kind == "texts",
        }
        for change in measured.changes
        if change.name in DRAWN
    ]
    views.append(
        wb.View(
            kind="curve",
            title=f"{TITLE}: bits that flip by code length",
            data={
                "x_label": "Code length (bits)",
                "y_label": "% of bits that flip",
                "x": list(CODE_LENGTHS),
                "x_scale": "log2",
                "series": series,
            },
        )
    )
    if measured.example:
        views.append(_example(measured))
    return views


def _example(measured: Stability) -> wb.View:
    """Return one picture under each change, with the bits that flip at the longest code over all pictures."""
    flips = {change.name: change.flips[CODE_LENGTHS[-1]] for change in measured.changes}
    items = []
    for name, picture in measured.example.items():
        if name in flips:
            said = {"subtitle": CHANGES[name].words, "note": f"{flips[name]:.1%} of {CODE_LENGTHS[-1]} bits"}
        else:
            said = {"subtitle": "", "note": ""}
        items.append({"caption": name, **said, "image": encoded_image(picture)})
    return wb.View(
        kind="image_grid",
        title=f"{TITLE}: one picture under each change",
        data={"items": items},
        notes=["Below each: the mean share of bits that flip, over all changed pictures."],
    )
