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

    samples = [sample["text"] for sample in panel.setup["samples"]]
    assert "강아지" in samples
    for seq, query in enumerate(samples):
        question = {"type": "search", "seq": seq, "by": "text", "query": query, "k": 20}
        panel._on_message({**question, "options": panel.setup["options"]}, [])
    for (answer, _), query in zip(sent, samples, strict=True):
        assert answer["hits"][0]["caption"] == query
        assert answer["took_ms"]["total"] >= 0
    assert [answer["seq"] for answer, _ in sent] == list(range(len(samples)))
