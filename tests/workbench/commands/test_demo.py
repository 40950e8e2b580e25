"""``workbench demo --collection``, where an adapter's demo takes none."""

from __future__ import annotations

import pytest

import workbench as wb
from workbench.commands.demo import run_demo


def test_a_demo_that_takes_no_collection_refuses_one(toy: wb.BaseAdapter, workspace: wb.Workspace) -> None:
    with pytest.raises(wb.NotSupported, match="a demo with --collection"):
        run_demo(workspace, toy, collection="words")
    assert workspace.jobs() == []
