"""A workspace on a server, driven from elsewhere: ``workbench.connect(url, token)``.

What comes back is used as a :class:`~workbench.workspace.Workspace` is: the same methods, the same handles,
the same classes of errors. Runs are logged from here (:mod:`workbench.remote_runs`), files and notebooks are
sent. What is only a path on the server (the workspace's folders, its database) raises ``NotSupported`` with a
word on what to do instead.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, BinaryIO, Self
from urllib.parse import parse_qs, quote, urlsplit

import httpx
from pydantic import BaseModel

from workbench import wire
from workbench.adapter.contract import BaseAdapter
from workbench.errors import (
    BadInput,
    BadOptions,
    Busy,
    ServerUnreachable,
    UnknownIndex,
    UnknownJob,
    UnknownRun,
)
from workbench.home import as_id
from workbench.jobs import floors, submission
from workbench.jobs.job import Job
from workbench.remote_runs import (
    RemoteRun,
    RemoteWriter,
    ServerSink,
    better_of,
    not_here,
    seconds_of,
    sendable,
    waiting_for_server,
)
from workbench.results.result import Metric, Result
from workbench.runs import description
from workbench.runs.run import Run
from workbench.search.elsewhere import RemoteSearcher
from workbench.store import records
from workbench.values import plain
from workbench.workspace import Workspace

if TYPE_CHECKING:
    from workbench.compare import Comparison
    from workbench.compare.reading import Curves, Runs
    from workbench.remote_compare import Families

#: Seconds for one answer; a search that opens its index first takes longest.
ANSWER_SECONDS = 180.0

#: A question that changes nothing is asked so often where the connection breaks.
_TRIES = 3

#: So many jobs or runs are asked for at once.
_PAGE = 500

#: So many answers to polled questions are kept, to be shown again where nothing has changed.
_KEPT_ANSWERS = 16

#: The server breaks its silence after ten seconds; one that is silent for so long is asked again.
_SILENCE_SECONDS = 25.0

_JOB_PATHS = {"train": "train", "eval": "eval", "index_build": "index-build"}


def connect(url: str, token: str | None = None, *, timeout: float = ANSWER_SECONDS) -> RemoteWorkspace:
    """Return the workspace that a Jupyter server serves.

    Parameters
    ----------
    url : str
        The server's address, with its base URL; that of a page of its JupyterLab will do, token and all.
    token : str, optional
        The server's token; what the address carries, or ``$JUPYTER_TOKEN``, if not given.
    timeout : float
        Seconds that one answer may take.

    Raises
    ------
    BadInput
        The address is none.
    AccessDenied
        The token is not the server's.
    ServerUnreachable
        Nothing answers there, or something that serves no workspace.
    """
    base, found = _address(url)
    door = Door(base, token or found or os.environ.get("JUPYTER_TOKEN") or "", timeout)
    try:
        door.get("jobs", limit=1)
    except BaseException:
        door.close()
        raise
    return RemoteWorkspace(door)


def _address(url: str) -> tuple[str, str]:
    """Return the server's base address and the token that an address of a page carries."""
    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise BadInput(f"{url!r} is no address of a server", hint="Such as http://localhost:8888.")
    path = parts.path
    for page in ("/lab", "/tree", "/notebooks", "/workbench/api"):
        cut = path.find(page)
        if cut >= 0 and path[cut + len(page) : cut + len(page) + 1] in ("", "/"):
            path = path[:cut]
    base = f"{parts.scheme}://{parts.netloc}{path.rstrip('/')}"
    return base, parse_qs(parts.query).get("token", [""])[0]


class Door:
    """The HTTP API of one server; safe to share between threads."""

    def __init__(self, base: str, token: str, timeout: float) -> None:
        self.base = base
        self._token = token
        headers = {"Authorization": f"token {token}"} if token else {}
        self._http = httpx.Client(base_url=f"{base}/workbench/api/", headers=headers, timeout=timeout)
        self._answers: OrderedDict[str, tuple[str, bytes]] = OrderedDict()
        self._answering = threading.Lock()

    def again(self, timeout: float) -> Door:
        """Return another door of the same server, with connections of its own."""
        return Door(self.base, self._token, timeout)

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    def get(self, path: str, **asked: Any) -> Any:
        """Return what is there."""
        return self._ask(
            "GET", path, params={key: value for key, value in asked.items() if value is not None}
        )

    def polled(self, path: str, seconds: float | None = None, /, **asked: Any) -> Any:
        """Return what is there, of which the server sends nothing where it is what it sent before."""
        params = httpx.QueryParams({key: value for key, value in asked.items() if value is not None})
        key = f"{path}?{params}"
        with self._answering:
            tag, kept = self._answers.get(key, ("", b""))
        headers = {"If-None-Match": tag} if tag else {}
        answer = self._send("GET", path, seconds=seconds, params=params, headers=headers)
        if answer.status_code == httpx.codes.NOT_MODIFIED and tag:
            return json.loads(kept)
        told = self._read(answer)
        with self._answering:
            self._answers[key] = (answer.headers.get("ETag", ""), answer.content)
            self._answers.move_to_end(key)
            while len(self._answers) > _KEPT_ANSWERS:
                self._answers.popitem(last=False)
        return told

    def post(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        again: bool = False,
        seconds: float | None = None,
    ) -> Any:
        """Send something; ``again`` where it does no harm to send it twice."""
        data = b"" if body is None else wire.dumps(body)
        return self._ask("POST", path, again=again, seconds=seconds, content=data)

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        """Change something; to send it twice does no harm."""
        return self._ask("PATCH", path, again=True, content=wire.dumps(body))

    def delete(self, path: str) -> Any:
        """Delete something."""
        return self._ask("DELETE", path)

    def send_file(self, path: str, file: BinaryIO, asked: Mapping[str, Any]) -> Any:
        """Send what a file holds from where it stands on, as it is read."""
        given = {key: value for key, value in asked.items() if value is not None}
        return self._ask("PUT", path, params=given, content=file)

    def file_parts(self, path: str, size: int) -> Generator[bytes]:
        """Yield the bytes of a file in parts.

        Raises
        ------
        ServerUnreachable
            The connection broke before all of it had come.
        """
        try:
            with self._http.stream("GET", path) as answer:
                if not answer.is_success:
                    answer.read()
                    self._read(answer)
                yield from answer.iter_bytes(size)
        except httpx.TransportError as error:
            raise self._unreachable(error) from None

    def _ask(self, verb: str, path: str, **more: Any) -> Any:
        return self._read(self._send(verb, path, **more))

    def _send(
        self, verb: str, path: str, *, again: bool = False, seconds: float | None = None, **more: Any
    ) -> httpx.Response:
        if self._http.is_closed:
            raise ServerUnreachable(f"the connection to {self.base} was closed", hint="Connect again.")
        tries = _TRIES if verb == "GET" or again else 1
        if seconds is not None:
            more["timeout"] = seconds
        for left in reversed(range(tries)):
            try:
                return self._http.request(verb, path, **more)
            except httpx.TransportError as error:
                if not left or isinstance(error, httpx.TimeoutException):
                    raise self._unreachable(error) from None
                time.sleep(0.2)
        raise AssertionError  # the last try returns or raises

    def _read(self, answer: httpx.Response) -> Any:
        try:
            told = answer.json()
        except ValueError:
            told = None
        if answer.is_success and told is not None:
            return told
        error = told.get("error") if isinstance(told, dict) else None
        if isinstance(error, dict):
            raise wire.error_from(error)
        raise ServerUnreachable(
            f"{self.base} does not serve a workspace (HTTP {answer.status_code} for {answer.url.path})",
            hint="Is notebook-workbench installed where the server runs, and is the base URL right?",
        )

    def _unreachable(self, error: Exception) -> ServerUnreachable:
        return ServerUnreachable(
            f"{self.base} does not answer: {error or type(error).__name__}", hint="Is the server running?"
        )

    def events(self, path: str, seconds: float) -> Generator[tuple[str, Any]]:
        """Yield (name, data) of server-sent events, and ("", None) for a sign of life.

        Raises
        ------
        TimeoutError
            Nothing came for so many seconds.
        """
        timeout = httpx.Timeout(ANSWER_SECONDS, read=seconds)
        try:
            with self._http.stream("GET", path, timeout=timeout) as answer:
                if not answer.is_success:
                    answer.read()
                    self._read(answer)
                name = ""
                for line in answer.iter_lines():
                    if line.startswith("event: "):
                        name = line.removeprefix("event: ")
                    elif line.startswith("data: "):
                        yield name, json.loads(line.removeprefix("data: "))
                    else:
                        yield "", None
        except httpx.TimeoutException:
            raise TimeoutError from None
        except httpx.TransportError as error:
            raise self._unreachable(error) from None


# Jobs ------------------------------------------------------------------------------------------


def _job_row(told: Mapping[str, Any]) -> records.Job:
    """Return a job's row from its JSON; what only the server's workers need is not in it."""
    progress = told["progress"]
    same = ("id", "type", "adapter", "status", "options", "summary", "error", "floors", "source", "run_id")
    columns = {name: told[name] for name in (*same, "attempt")}
    columns |= {f"progress_{name}": progress[name] for name in _PROGRESS}
    columns |= {name: seconds_of(told[name]) for name in ("created_at", "started_at", "finished_at")}
    return records.Job(**columns, notebook=told["notebook"] or "")


def _result(told: Mapping[str, Any] | None) -> Result | None:
    """Return a job's result from its JSON, in which a number that is none is null."""
    if not told:
        return None
    metrics = {name: wire.number_from(value) for name, value in told["metrics"].items()}
    return Result.model_validate({**told, "metrics": metrics})


_PROGRESS = ("done", "total", "message", "stages", "rate", "left")


class RemoteJob(Job):
    """One job on a server, looked at from here.

    Its ``notebook`` is a path on the server.
    """

    _home: RemoteWorkspace

    def __init__(self, home: RemoteWorkspace, told: Mapping[str, Any]) -> None:
        super().__init__(home, _job_row(told))
        self._take(told)

    def _take(self, told: Mapping[str, Any]) -> None:
        self._row, self._read_at = _job_row(told), time.monotonic()
        self._result = _result(told.get("result"))
        self._asked_result = "result" in told

    def refresh(self) -> Self:
        """Read the job again, now."""
        self._take(self._home.door.get(f"jobs/{self.id}"))
        return self

    @property
    def folder(self) -> Path:
        """Not to be had: it is on the server."""
        raise not_here("a job's folder", "Its log is job.logs(), and its result job.result.")

    @property
    def notebook(self) -> Path | None:
        """The executed notebook, on the server; None where there is none."""
        row = self._now()
        return Path(row.notebook) if row.notebook else None

    @property
    def result(self) -> Result | None:
        """What it returned; None while there is nothing."""
        if self._now().status in records.FINAL_STATUSES and not self._asked_result:
            self.refresh()
        return self._result

    def retry(self) -> Job:
        """Queue the same again on the server; see :meth:`workbench.jobs.job.Job.retry`."""
        return RemoteJob(self._home, self._home.door.post(f"jobs/{self.id}/retry"))

    def logs(self, tail: int = 200) -> str:
        """Return the last lines of what it printed; empty while there is nothing."""
        if tail < 1:
            return ""
        return _text(self._home.door.get(f"jobs/{self.id}/logs", tail=min(tail, 10_000)))

    def log_size(self) -> int:
        """Return how many bytes its log has."""
        return int(self._home.door.get(f"jobs/{self.id}/logs", tail=1)["next"])

    def log_after(self, at: int) -> tuple[str, int]:
        """Return what its log holds after so many bytes, and how many to pass over the next time."""
        told = self._home.door.get(f"jobs/{self.id}/logs", after=at)
        return _text(told), told["next"]

    def follow_logs(self, pause: float = 0.5) -> Iterator[str]:
        """Yield the lines of its log as they come, from the first on, until the job has ended."""
        at, cut = 0, ""
        while True:
            ended = self.refresh().done  # asked first: what was printed before the end is there then
            while True:
                text, after = self.log_after(at)
                *lines, cut = (cut + text).split("\n")
                yield from lines
                if after == at:
                    break
                at = after
            if ended:
                if cut:
                    yield cut
                return
            time.sleep(pause)

    def wait(
        self,
        timeout: float | None = None,
        on_progress: Callable[[Job], object] | None = None,
        *,
        check: bool = True,
    ) -> Self:
        """Return when the job has ended; see :meth:`workbench.jobs.job.Job.wait`.

        The server tells of every change over one connection. Where that breaks, or the server is started
        anew, it is asked again.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                self._follow(deadline, on_progress)
            except (Busy, ServerUnreachable):
                if deadline is None or time.monotonic() < deadline - 0.5:
                    time.sleep(0.5)
                    self._ping()
                    continue
            except TimeoutError:
                pass
            if self._row.status in records.FINAL_STATUSES:
                break
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"job {self.id} is {self._row.status} after {timeout:g} s; it goes on")
        if check:
            self._raise_unless_succeeded()
        return self

    def _ping(self) -> None:
        """Wait a little for a server that is started anew; one that stays away is an error."""
        until = time.monotonic() + 30.0
        while True:
            try:
                self.refresh()
                return
            except (Busy, ServerUnreachable):
                if time.monotonic() > until:
                    raise
            time.sleep(0.5)

    def _follow(self, deadline: float | None, on_progress: Callable[[Job], object] | None) -> None:
        """Take what the server tells, until the job's end or the deadline."""

        def left() -> float:
            return _SILENCE_SECONDS if deadline is None else max(deadline - time.monotonic(), 0.01)

        path = f"jobs/{self.id}/events"
        with contextlib.closing(self._home.door.events(path, min(left(), _SILENCE_SECONDS))) as events:
            for name, told in events:
                if name == "error":
                    raise wire.error_from(told["error"])
                if name == "end":
                    self._take(told)
                    return
                if name == "progress":
                    self._take_progress(told)
                    if on_progress is not None:
                        on_progress(self)
                if deadline is not None and time.monotonic() >= deadline:
                    return

    def _take_progress(self, told: Mapping[str, Any]) -> None:
        row = self._row.model_copy(update={"status": told["status"], "attempt": told["attempt"]})
        for name in _PROGRESS:
            setattr(row, f"progress_{name}", told["progress"][name])
        self._row, self._read_at = row, time.monotonic()
        self._asked_result = False

    def cancel(self) -> Self:
        """Ask for the job to stop; one that has ended stays as it is."""
        self._take(self._home.door.post(f"jobs/{self.id}/cancel", again=True))
        return self


def _text(told: Mapping[str, Any]) -> str:
    return "\n".join(told["lines"]) + ("\n" if told["lines"] and not told["open_line"] else "")


# Comparing -------------------------------------------------------------------------------------


class RemoteComparison:
    """What the server says of some runs beside each other; read as a ``Comparison`` is."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        self._told = told

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._told:
            raise AttributeError(name)
        return _spaces(self._told[name])

    @property
    def differences(self) -> list[Any]:
        """The settings in which the runs differ."""
        return [row for row in _spaces(self._told["config"]) if row.differs]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, as ``Comparison.to_json`` does; the curves are beside it, in ``series``."""
        return {key: value for key, value in self._told.items() if key != "series"}


def _spaces(value: Any) -> Any:
    """Return rows whose columns are attributes."""
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return [SimpleNamespace(**item) for item in value]
    return value


# The workspace ---------------------------------------------------------------------------------


class RemoteWorkspace(Workspace):
    """A workspace on a server; make one with :func:`connect`."""

    def __init__(self, door: Door) -> None:
        self.door = door

    @cached_property
    def sink(self) -> ServerSink:
        """Takes points to the server."""
        return ServerSink(self.door)

    @cached_property
    def writer(self) -> RemoteWriter:
        """Sends what is logged from here; made when something is."""
        return RemoteWriter(self.sink, self.sink)

    @property
    def logs(self) -> bool:
        """Whether something was logged from here."""
        return "writer" in self.__dict__

    def __repr__(self) -> str:
        return f"connect({self.door.base!r})"

    def __getattr__(self, name: str) -> Any:
        if name in ("path", "store", "database_url", "_writer"):
            raise not_here(f"a workspace's {name.strip('_')}", "Do it where the workspace is.")
        raise AttributeError(name)

    def close(self) -> None:
        """Send what is queued and close the connections; jobs go on."""
        try:
            if self.logs:
                self.writer.flush()
                self.writer.stop()
        finally:
            if self.logs and not self.writer.open_runs:  # a run that was left open is ended with the process
                self.sink.close()
            self.door.close()

    def _folder(self, name: str) -> Path:
        raise not_here(f"the folder {name!r}", "It is on the server.")

    # Runs --------------------------------------------------------------------------------------

    def start_run(
        self,
        experiment: str,
        name: str | None = None,
        config: Mapping[str, Any] | BaseModel | None = None,
        job_id: int | None = None,
        *,
        tags: Mapping[str, Any] | None = None,
        notes: str = "",
        seed: int | None = None,
        better: description.Better | Sequence[Metric] | None = None,
    ) -> Run:
        """Start a run on the server that is logged from here; see :meth:`Workspace.start_run`.

        The git revision and what it runs on are those of this machine and folder.
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
        # Asked twice with one key it is one run.
        told = waiting_for_server(lambda: self.door.post("runs", body, again=True))
        run = RemoteRun(self, told)
        self.sink.began(run.id, key)
        self.writer.begin(run.id)
        return run

    def run(self, run_id: int) -> Run:
        """Return a run by id."""
        number = as_id(run_id)
        if number is None:
            newest = self.door.get("runs", limit=1)["runs"]
            raise UnknownRun(run_id, newest[0]["id"] if newest else None)
        return RemoteRun(self, self.door.get(f"runs/{number}"))

    def runs(self, experiment: str | None = None) -> list[Run]:
        """Return runs, newest first; those of one experiment if it is named."""
        found: list[Run] = []
        while True:
            page = self.door.get("runs", experiment=experiment, limit=_PAGE, offset=len(found))
            found += [RemoteRun(self, told) for told in page["runs"]]
            if not page["more"]:
                return found

    def experiments(self) -> list[str]:
        """Return the names of the experiments, sorted."""
        return [told["name"] for told in self.door.get("experiments")["experiments"]]

    # Comparing ---------------------------------------------------------------------------------

    def run_reader(self) -> Runs:
        """Return what reads runs and their summaries again and again, for a panel that compares them."""
        from workbench.remote_compare import RemoteRuns

        return RemoteRuns(self.door, self._families)

    def curve_reader(self) -> Curves:
        """Return what reads curves once, and then only what was logged since."""
        from workbench.compare.reading import Curves
        from workbench.remote_compare import RemotePoints

        return Curves(RemotePoints(self.door))

    @cached_property
    def _families(self) -> Families:
        from workbench.remote_compare import Families

        return Families(self.door)

    def _family_metrics(self, families: Collection[str]) -> list[Metric]:
        return self._families.metrics(families)

    def compare(self, run_ids: Sequence[int], **more: Any) -> Comparison:
        """Compare runs: how their configs differ, which is best at what; ``series`` has their curves."""
        if self.logs:
            self.writer.flush()
        return RemoteComparison(  # type: ignore[return-value]  # it is read as one
            self.door.post("experiments/compare", {"runs": list(run_ids), **more}, again=True)
        )

    # Jobs --------------------------------------------------------------------------------------

    def submit(
        self,
        type: str,  # noqa: A002  # the word for it everywhere
        adapter: str | BaseAdapter | None = None,
        options: Mapping[str, Any] | BaseModel | None = None,
        *,
        fail_below: Mapping[str, float] | str | None = None,
    ) -> Job:
        """Queue a job on the server, whose adapter checks the options before anything is queued."""
        if type not in _JOB_PATHS:
            raise BadInput(f"no job type {type!r}. There are: {', '.join(_JOB_PATHS)}")
        if options is not None and not isinstance(options, (Mapping, BaseModel)):
            raise BadOptions(f"options must be a dictionary, not {options!r}")
        body = {
            "adapter": adapter.name if isinstance(adapter, BaseAdapter) else adapter or None,
            "options": plain(options or {}, "options"),
            "fail_below": floors.check_floors(fail_below) or None,
        }
        return RemoteJob(self, self.door.post(f"jobs/{_JOB_PATHS[type]}", body))

    def submit_notebook(
        self, path: str | os.PathLike[str], parameters: Mapping[str, Any] | None = None
    ) -> Job:
        """Send a notebook of this machine, and queue it as a job on the server.

        What is executed is the notebook as it is now, in the folder that the server runs in: what it reads
        must be there. See :meth:`Workspace.submit_notebook`.

        Raises
        ------
        TooLarge
            It has more bytes than the server takes.
        """
        file = submission.local_notebook(path)
        if parameters is not None and not isinstance(parameters, Mapping):
            raise BadOptions(f"parameters must be a dictionary, not {parameters!r}")
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise BadInput(f"{str(file)!r} cannot be read as a notebook: {error}") from None
        given = plain(parameters or {}, "parameters")
        body = {"name": file.name, "notebook": text, "parameters": given}
        return RemoteJob(self, self.door.post("jobs/notebook", body))

    def job(self, job_id: int) -> Job:
        """Return a job by id."""
        number = as_id(job_id)
        if number is None:
            newest = self.door.get("jobs", limit=1)["jobs"]
            raise UnknownJob(job_id, newest[0]["id"] if newest else None)
        return RemoteJob(self, self.door.get(f"jobs/{number}"))

    def jobs(
        self,
        type: str | None = None,  # noqa: A002
        status: str | Collection[str] | None = None,
        limit: int | None = 100,
        offset: int = 0,
    ) -> list[Job]:
        """Return jobs, newest first, one page at a time."""
        if (limit is not None and limit < 0) or offset < 0:
            raise BadInput(f"limit={limit}, offset={offset}: neither can be below 0")
        if status is not None and not isinstance(status, str):  # the server is asked for one at a time
            end = None if limit is None else offset + limit
            several = [job for one in status for job in self.jobs(type, one, end)]
            return sorted(several, key=lambda job: -job.id)[offset:end]
        found: list[Job] = []
        while limit is None or len(found) < limit:
            most = _PAGE if limit is None else min(limit - len(found), _PAGE)
            page = self.door.polled("jobs", type=type, status=status, limit=most, offset=offset + len(found))
            found += [RemoteJob(self, told) for told in page["jobs"]]
            if len(page["jobs"]) < most:
                break
        return found

    def count_jobs(
        self,
        type: str | None = None,  # noqa: A002
        status: str | Collection[str] | None = None,
    ) -> int:
        """Return how many jobs there are, of a type and in some states where they are given."""
        states = (status,) if status is None or isinstance(status, str) else tuple(status)
        return sum(int(self.door.get("jobs", type=type, status=one, limit=1)["total"]) for one in states)

    def job_types(self) -> list[str]:
        """Return the types of jobs that the server's adapters offer, sorted."""
        told = self.door.get("adapters")["adapters"]
        return sorted({kind for family in told for kind in family["job_types"]})

    # Indexes -----------------------------------------------------------------------------------

    def index_names(self) -> list[str]:
        """Return the names of the indexes that are whole, sorted."""
        return [told["name"] for told in self.door.get("indexes")["indexes"]]

    def open_search(self, name: str, *, service: bool = True) -> RemoteSearcher:
        """Return a searcher whose index is opened on the server."""
        if name not in (names := self.index_names()):
            raise UnknownIndex(name, names)
        return RemoteSearcher(self.door.get(f"indexes/{quote(name, safe='')}"), self._search)

    def _search(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        by = question["by"]
        field = "query" if by == "text" else by
        body = {"index": question["index"], field: question[by], "k": question["k"]}
        try:
            body["options"] = plain(question["options"], "options")
            json.dumps(body)
        except TypeError as error:
            raise BadInput(f"a search takes plain values: {error}") from None
        told: Mapping[str, Any] = self.door.post(f"search/{by}", body, again=True)
        return told
