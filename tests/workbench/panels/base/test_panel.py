"""What all panels share: their files, and closing without leftovers."""

from __future__ import annotations

import pytest

from workbench.panels.base.assets import assets
from workbench.panels.base.panel import Panel


def test_files_are_put_together_in_the_order_given() -> None:
    both = assets("base/theme.css", "jobs/jobs.css")
    assert both == assets("base/theme.css") + "\n" + assets("jobs/jobs.css")
    with pytest.raises(FileNotFoundError):
        assets("base/no-such-file.js")


def test_a_closed_panel_leaves_no_widget_behind() -> None:
    class Empty(Panel):
        _esm = "export default { render() {} };"

    panel = Empty()
    layout = panel.layout
    assert layout.comm is not None
    panel.close()
    assert panel.comm is None
    assert layout.comm is None
    panel.close()  # twice is once
