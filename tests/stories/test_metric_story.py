"""Log a metric and follow it until the table of runs shows it, from another process."""

import subprocess
import sys

import workbench as wb
from workbench.panels import ComparePanel
from workbench.panels.base.assets import TROPHY

TRAIN = """
import sys
import workbench as wb
with wb.Workspace(sys.argv[1]).start_run("emoji", name=sys.argv[2], better={"val/*": "higher"}) as run:
    for step in range(3):
        run.log({"train/loss": 1 / (step + 1), "val/mAP": float(sys.argv[3]) * step}, step=step)
"""


def test_log_a_metric_until_the_table_shows_it(workspace: wb.Workspace) -> None:
    for name, best in (("짧은", "0.2"), ("긴", "0.3")):
        subprocess.run([sys.executable, "-c", TRAIN, str(workspace.path), name, best], check=True)
    run, other = workspace.runs("emoji")
    assert (run.name, other.name, run.status) == ("긴", "짧은", "succeeded")
    assert run.summary["val/mAP"]["best"] == 0.6

    panel = ComparePanel(workspace, runs=[other.id, run.id])
    try:
        table = panel.to_html()
    finally:
        panel.close()
    assert "val/mAP" in table
    assert f"{TROPHY}<b>0.600</b>" in table
    assert f"{TROPHY}<b>0.400</b>" not in table
