"""One handle, two backends: the common classes of runs, jobs and workspaces."""

import workbench as wb
from workbench.jobs.local import LocalJob
from workbench.remote.jobs import RemoteJob
from workbench.remote.runs import RemoteRun
from workbench.runs.local import LocalRun


def test_the_common_classes_are_abstract_and_each_backend_is_whole() -> None:
    for common, kinds in (
        (wb.Run, (LocalRun, RemoteRun)),
        (wb.Job, (LocalJob, RemoteJob)),
        (wb.BaseWorkspace, (wb.Workspace, wb.RemoteWorkspace)),
    ):
        assert common.__abstractmethods__
        for kind in kinds:
            assert issubclass(kind, common)
            assert not kind.__abstractmethods__
    assert not issubclass(RemoteRun, LocalRun)
    assert not issubclass(wb.RemoteWorkspace, wb.Workspace)
