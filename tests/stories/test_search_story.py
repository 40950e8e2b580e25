"""Build an index, open it, type a query in the panel, see what it finds. No browser, no shortcut."""

from __future__ import annotations

from typing import Any

import workbench as wb

PATIENCE = 120


def test_type_a_query_until_its_hits_show(workspace: wb.Workspace, toy: wb.BaseAdapter) -> None:
    job = workspace.submit("index_build", adapter="toy", options={"name": "words"})
    job.wait(timeout=PATIENCE)
    panel = wb.panels.search_page(workspace)
    assert isinstance(panel, wb.panels.SearchPanel)
    sent: list[tuple[dict[str, Any], list[bytes]]] = []
    panel.send = lambda content, buffers=None: sent.append((content, list(buffers or [])))

    sample = next(sample["text"] for sample in panel.setup["samples"] if sample["language"] == "ko")
    question = {"type": "search", "by": "text", "k": 20}
    options = panel.setup["options"]
    panel._on_message({**question, "seq": 1, "query": sample, "options": options}, [])
    panel._on_message({**question, "seq": 2, "query": sample, "options": {**options, "exact": True}}, [])

    first, second = (message for message, _ in sent)
    assert (first["seq"], first["hits"][0]["caption"]) == (1, "강아지")
    assert len(first["hits"]) > len(second["hits"])
    assert (second["seq"], [hit["caption"] for hit in second["hits"]]) == (2, ["강아지"])
    assert first["took_ms"]["total"] >= 0
