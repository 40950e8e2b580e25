"""The client of a workspace on a server: ``workbench.connect(url, token)``.

It is used like a local workspace: both are a :class:`~workbench.base_workspace.BaseWorkspace`, with the same
handles and error classes. Runs log over HTTP (:mod:`workbench.remote.runs`); files and notebooks are
uploaded. Paths on the server (the workspace's folders, its database) raise ``NotSupported`` with a hint.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar
from urllib.parse import quote

from pydantic import BaseModel
from typing_extensions import override

from workbench.adapter.contract import BaseAdapter
from workbench.base_workspace import BaseWorkspace, check_page
from workbench.errors import BadInput, BadOptions, UnknownExperiment, UnknownJob, UnknownRun
from workbench.home import as_id
from workbench.host.files import check_file_name
from workbench.jobs import floors, submission
from workbench.remote.door import ANSWER_SECONDS, Door, OnServer, parse_address
from workbench.remote.jobs import RemoteJob
from workbench.remote.kept_files import Source, file_at
from workbench.remote.runs import RemoteRun
from workbench.remote.sending import Sender, better_of, sendable, waiting_for_server
from workbench.results.result import Better, Metric
from workbench.runs import description
from workbench.runs.system import Sampler, switched_on
from workbench.search.elsewhere import RemoteSearcher
from workbench.search.indexes import stored_name
from workbench.search.messages import SIDES
from workbench.values import Settings, Tags, as_step, exact, plain

if TYPE_CHECKING:
    from workbench.compare import Comparison
    from workbench.compare.reading import Curves, Runs
    from workbench.remote.comparing import Families

#: Number of jobs or runs per request.
_PAGE = 500

#: Attributes that only a local workspace has.
_OF_A_FOLDER = ("path", "store", "database_url", "import_mlflow", "import_tensorboard")
_FOLDERS = ("cache", "indexes", "jobs_dir", "runs_dir")

_JOB_PATHS = {"train": "train", "eval": "eval", "index_build": "index-build", "data_check": "data-check"}


def connect(url: str, token: str | None = None, *, timeout: float = ANSWER_SECONDS) -> RemoteWorkspace:
    """Return the workspace that a Jupyter server serves.

    Parameters
    ----------
    url : str
        The server's URL with its base path; the URL of a JupyterLab page, with or without token, also works.
    token : str, optional
        The server's token; default: the one in the URL, or ``$JUPYTER_TOKEN``.
    timeout : float
        Timeout of a request in seconds.

    Raises
    ------
    BadInput
        The URL is invalid.
    AccessDenied
        The token is wrong.
    ServerUnreachable
        Nothing answers at the URL, or the server does not serve a workspace.
    """
    base, url_token = parse_address(url)
    door = Door(base, token or url_token or os.environ.get("JUPYTER_TOKEN") or "", timeout)
    try:
        door.get("jobs", limit=1)
    except BaseException:
        door.close()
        raise
    return RemoteWorkspace(door)


def _selection(experiment: str | None, where: str | None, archived: bool | None) -> dict[str, Any]:
    """Return the query for a choice of runs; what is the default is left out, for older servers."""
    if archived is not None and not isinstance(archived, bool):
        raise BadInput(f"archived must be True, False or None, got {archived!r}")
    hidden = {True: {"archived": "true"}, False: {}, None: {"archived": "any"}}[archived]
    return {"experiment": experiment, "where": where, **hidden}


class RemoteWorkspace(OnServer, BaseWorkspace):
    """A workspace on a server; make one with :func:`connect`."""

    _only_local: ClassVar[Mapping[str, tuple[str, str]]] = {
        **{name: (f"a workspace's {name}", "Use it on the server.") for name in _OF_A_FOLDER},
        **{name: (f"the folder {name!r}", "It is on the server.") for name in _FOLDERS},
    }

    def __init__(self, door: Door) -> None:
        self.door = door
        self._sender = Sender(door)

    def __repr__(self) -> str:
        return f"connect({self.door.base!r})"

    @property
    @override
    def location(self) -> str:
        return self.door.base

    @override
    def close(self) -> None:
        """Send queued points and close the connections; jobs keep running."""
        if "_sampler" in self.__dict__:
            self._sampler.stop()
        try:
            self._sender.close()
        finally:
            self.door.close()

    # Runs --------------------------------------------------------------------------------------

    @override
    def start_run(
        self,
        experiment: str,
        name: str | None = None,
        config: Settings | None = None,
        job_id: int | None = None,
        *,
        tags: Tags | None = None,
        notes: str = "",
        seed: int | None = None,
        better: Mapping[str, Better] | Sequence[Metric] | None = None,
        system: bool | None = None,
    ) -> RemoteRun:
        """Start a run on the server, logged from this process; see :meth:`BaseWorkspace.start_run`.

        It records the git revision and environment of this machine and folder.
        """
        experiment = description.check_experiment(experiment)
        row = description.new_row(name, config, job_id, tags=tags, notes=notes, seed=seed, better=better)
        key = secrets.token_hex(16)
        same = ("name", "config", "tags", "notes", "seed", "job_id", "created_at")
        body = {
            **{column: getattr(row, column) for column in same},
            **{column: sendable(getattr(row, column)) for column in ("git", "environment")},
            **{"key": key, "experiment": experiment, "better": better_of(row)},
        }
        # Idempotent: the same key always returns the same run.
        reply = waiting_for_server(lambda: self.door.post("runs", body, again=True))
        run = self._run(reply)
        self._sender.begin(run.id, key)
        return run.sample(self._sampler) if switched_on(system) else run

    @cached_property
    def _sampler(self) -> Sampler:
        return Sampler()

    def _run(self, reply: Mapping[str, Any]) -> RemoteRun:
        return RemoteRun(self.door, self._sender, reply)

    @override
    def run(self, run_id: int) -> RemoteRun:
        number = as_id(run_id)
        if number is None:
            newest = self.door.get("runs", limit=1)["runs"]
            raise UnknownRun(run_id, newest[0]["id"] if newest else None)
        return self._run(self.door.get(f"runs/{number}"))

    @override
    def runs(
        self,
        experiment: str | None = None,
        *,
        where: str | None = None,
        sort: str | Sequence[str] | None = None,
        archived: bool | None = False,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[RemoteRun]:
        check_page(limit, offset)
        if where is not None:
            self._sender.flush()  # what this process logged is compared too
        query = _selection(experiment, where, archived)
        query["sort"] = sort if sort is None or isinstance(sort, str) else ",".join(sort)
        runs: list[RemoteRun] = []
        while limit is None or len(runs) < limit:
            most = _PAGE if limit is None else min(limit - len(runs), _PAGE)
            page = self.door.get("runs", **query, limit=most, offset=offset + len(runs))
            runs += [self._run(reply) for reply in page["runs"]]
            if not page["more"] or not page["runs"]:
                break
        return runs

    @override
    def count_runs(
        self, experiment: str | None = None, *, where: str | None = None, archived: bool | None = False
    ) -> int:
        return int(self.door.get("runs", **_selection(experiment, where, archived), limit=1)["total"])

    @override
    def resume_run(self, run_id: int, step: int | None = None) -> RemoteRun:
        number = self.run(run_id).id
        step = None if step is None else as_step(step)
        key = secrets.token_hex(16)
        # Idempotent: the same key always resumes once.
        body = {"key": key, "step": step}
        reply = waiting_for_server(lambda: self.door.post(f"runs/{number}/resume", body, again=True))
        run = self._run(reply)
        run._auto_step = step
        self._sender.begin(run.id, key)
        return run.sample(self._sampler) if switched_on(None) else run

    @override
    def experiments(self, *, archived: bool | None = False) -> list[str]:
        rows = self.door.get("experiments")["experiments"]
        # Servers of version 0.2.0 archive nothing.
        return [row["name"] for row in rows if archived in (None, row.get("archived_at") is not None)]

    @override
    def rename_experiment(self, name: str, new: str) -> None:
        body = {"name": description.check_experiment(new)}
        self.door.post(f"experiments/{self._experiment_id(name)}/rename", body, again=True)

    @override
    def archive_experiment(self, name: str) -> None:
        self.door.post(f"experiments/{self._experiment_id(name)}/archive", again=True)

    @override
    def restore_experiment(self, name: str) -> None:
        self.door.post(f"experiments/{self._experiment_id(name)}/restore", again=True)

    @override
    def delete_experiment(self, name: str) -> dict[str, int]:
        counts: dict[str, int] = self.door.delete(f"experiments/{self._experiment_id(name)}")["deleted"]
        return counts

    def _experiment_id(self, name: str) -> int:
        ids = {row["name"]: int(row["id"]) for row in self.door.get("experiments")["experiments"]}
        if name not in ids:
            raise UnknownExperiment(name, ids)
        return ids[name]

    # Comparing ---------------------------------------------------------------------------------

    @override
    def run_reader(self) -> Runs:
        from workbench.remote.comparing import RemoteRuns

        return RemoteRuns(self.door, self._families)

    @override
    def curve_reader(self) -> Curves:
        from workbench.compare.reading import Curves
        from workbench.remote.comparing import RemotePoints

        return Curves(RemotePoints(self.door))

    @cached_property
    def _families(self) -> Families:
        from workbench.remote.comparing import Families

        return Families(self.door)

    @override
    def family_metrics(self, families: Collection[str]) -> dict[str, list[Metric]]:
        return self._families.metrics(families)

    @override
    def compare(
        self,
        run_ids: Sequence[int],
        *,
        statistic: str = "last",
        baseline: int | None = None,
        better: Mapping[str, Better | None] | None = None,
        metrics: Sequence[str] | None = None,
        points: int = 400,
    ) -> Comparison:
        """Compare runs: which settings differ, and which run is best by each metric.

        In addition to a local comparison, ``series`` has the runs' curves.

        Parameters
        ----------
        run_ids, statistic, baseline, better
            As for :meth:`BaseWorkspace.compare`.
        metrics : sequence of str, optional
            The metrics whose curves ``series`` has; default: the first few of the final table.
        points : int
            Each curve is cut into this number of parts, and three points of each part are kept.
        """
        from workbench.remote.comparing import RemoteComparison

        self._sender.flush()
        body = {
            "runs": list(run_ids),
            "statistic": statistic,
            "baseline": baseline,
            "better": None if better is None else dict(better),
            "metrics": None if metrics is None else list(metrics),
            "points": points,
        }
        reply = self.door.post("experiments/compare", body, again=True)
        return RemoteComparison(reply)  # type: ignore[return-value]  # it has the same attributes

    # Jobs --------------------------------------------------------------------------------------

    @override
    def submit(
        self,
        type: str,
        adapter: str | BaseAdapter | None = None,
        options: Mapping[str, Any] | BaseModel | None = None,
        *,
        fail_below: Mapping[str, float] | str | None = None,
    ) -> RemoteJob:
        """Queue a job on the server; its adapter validates the options first."""
        if type not in _JOB_PATHS:
            raise BadInput(f"no job type {type!r}. Known: {', '.join(_JOB_PATHS)}")
        if options is not None and not isinstance(options, (Mapping, BaseModel)):
            raise BadOptions(f"options must be a dictionary, not {options!r}")
        body = {
            "adapter": adapter.name if isinstance(adapter, BaseAdapter) else adapter or None,
            "options": plain(options or {}, "options"),
            "fail_below": floors.check_floors(fail_below) or None,
        }
        return RemoteJob(self.door, self.door.post(f"jobs/{_JOB_PATHS[type]}", body))

    @override
    def submit_notebook(
        self, path: str | os.PathLike[str], parameters: Mapping[str, Any] | None = None
    ) -> RemoteJob:
        """Upload a local notebook and queue it as a job on the server.

        The notebook is copied now and runs in the server's working folder; files that it reads must exist
        there. See :meth:`BaseWorkspace.submit_notebook`.

        Raises
        ------
        TooLarge
            It exceeds the server's size limit.
        """
        file = submission.local_notebook(path)
        if parameters is not None and not isinstance(parameters, Mapping):
            raise BadOptions(f"parameters must be a dictionary, not {parameters!r}")
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise BadInput(f"{str(file)!r} cannot be read as a notebook: {error}") from None
        values = exact(parameters or {}, "parameters")
        body = {"name": file.name, "notebook": text, "parameters": values}
        return RemoteJob(self.door, self.door.post("jobs/notebook", body))

    @override
    def job(self, job_id: int) -> RemoteJob:
        number = as_id(job_id)
        if number is None:
            newest = self.door.get("jobs", limit=1)["jobs"]
            raise UnknownJob(job_id, newest[0]["id"] if newest else None)
        return RemoteJob(self.door, self.door.get(f"jobs/{number}"))

    @override
    def jobs(
        self,
        type: str | None = None,
        status: str | Collection[str] | None = None,
        limit: int | None = 100,
        offset: int = 0,
        *,
        archived: bool | None = False,
    ) -> list[RemoteJob]:
        if (limit is not None and limit < 0) or offset < 0:
            raise BadInput(f"limit and offset must be at least 0, got limit={limit}, offset={offset}")
        if status is not None and not isinstance(status, str):  # one request per status
            end = None if limit is None else offset + limit
            several = [job for one in status for job in self.jobs(type, one, end, archived=archived)]
            return sorted(several, key=lambda job: -job.id)[offset:end]
        hidden = {} if archived is False else {"archived": "any" if archived is None else "true"}
        jobs: list[RemoteJob] = []
        while limit is None or len(jobs) < limit:
            most = _PAGE if limit is None else min(limit - len(jobs), _PAGE)
            at = {"limit": most, "offset": offset + len(jobs)}
            page = self.door.polled("jobs", type=type, status=status, **at, **hidden)
            jobs += [RemoteJob(self.door, reply) for reply in page["jobs"]]
            if len(page["jobs"]) < most:
                break
        return jobs

    @override
    def count_jobs(
        self,
        type: str | None = None,
        status: str | Collection[str] | None = None,
        *,
        archived: bool | None = False,
    ) -> int:
        states = (status,) if status is None or isinstance(status, str) else tuple(status)
        hidden = {} if archived is False else {"archived": "any" if archived is None else "true"}
        query = {"type": type, "limit": 1, **hidden}
        return sum(int(self.door.get("jobs", status=one, **query)["total"]) for one in states)

    @override
    def job_types(self) -> list[str]:
        """Return the types of jobs that the server's adapters offer, sorted."""
        reply = self.door.get("adapters")["adapters"]
        return sorted({kind for family in reply for kind in family["job_types"]})

    # Indexes -----------------------------------------------------------------------------------

    @override
    def index_names(self, *, archived: bool = False) -> list[str]:
        hidden = {"archived": "true"} if archived else {}
        return [reply["name"] for reply in self.door.get("indexes", **hidden)["indexes"]]

    @override
    def rename_index(self, name: str, new: str) -> str:
        return self._order_index(name, "rename", {"name": check_file_name(new, "index")})

    @override
    def archive_index(self, name: str) -> str:
        return self._order_index(name, "archive")

    @override
    def restore_index(self, name: str) -> str:
        return self._order_index(name, "restore")

    @override
    def delete_index(self, name: str) -> dict[str, int]:
        counts: dict[str, int] = self.door.delete(f"indexes/{quote(name, safe='')}")["deleted"]
        return counts

    def _order_index(self, name: str, verb: str, body: Mapping[str, Any] | None = None) -> str:
        return str(self.door.post(f"indexes/{quote(name, safe='')}/{verb}", body)["name"])

    @override
    def newest_index(self) -> str | None:
        return next(reversed(self.index_names()), None)

    @override
    def open_search(self, name: str, *, service: bool = True) -> RemoteSearcher:
        """Return a searcher over an index that is open on the server."""
        name = stored_name(self.index_names(), name)
        place = f"indexes/{quote(name, safe='')}"

        def download(item: str) -> BinaryIO:
            return file_at(Source(self.door, f"{place}/items/{quote(item, safe='')}/file"))

        return RemoteSearcher(self.door.get(place), self._search, download)

    def _search(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        if question["op"] == "fields":
            known: Mapping[str, Any] = self.door.get(f"indexes/{quote(question['index'], safe='')}/fields")
            return known
        by = "explain" if question["op"] == "explain" else question["by"]
        if by == "explain":
            sides = {
                side: {question[side]["by"]: question[side]["value"], "name": question[side]["name"]}
                for side in SIDES
            }
            body = {"index": question["index"], **sides}
        else:
            field = "query" if by == "text" else by
            body = {"index": question["index"], field: question[by], "k": question["k"]}
        try:
            body["options"] = plain(question["options"], "options")
            json.dumps(body)
        except TypeError as error:
            raise BadInput(f"search options must be plain JSON values: {error}") from None
        reply: Mapping[str, Any] = self.door.post(f"search/{by}", body, again=True)
        return reply
