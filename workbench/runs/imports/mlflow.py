"""Import runs from MLflow: from its database, its file store, or its server.

Databases and folders are read directly, without MLflow and read-only, so that the MLflow version does not
matter. A server is read through MLflow's client.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from workbench.errors import BadInput, MissingExtra, StoreError
from workbench.runs.imports import ForeignRun, Imported, OnProgress, bring
from workbench.runs.imports.mlflow_files import runs_in_folder
from workbench.runs.imports.mlflow_terms import RunProblems, foreign_run, number_of, points_of
from workbench.runs.imports.report import Report
from workbench.store.engines import sqlite_module
from workbench.store.points import Batch
from workbench.store.store import Store

_HINT = "Give sqlite:///path/mlflow.db, postgresql://…, an mlruns folder, or https://server."


def import_mlflow(store: Store, uri: str, on_progress: OnProgress | None = None) -> Imported:
    """Import the runs of an MLflow store; see ``Workspace.import_mlflow``."""
    report = Report()
    return bring(store, list(_read(str(uri), report)), report, on_progress)


def _read(uri: str, report: Report) -> Iterator[ForeignRun]:
    kind = urlsplit(uri).scheme if "://" in uri or uri.startswith("file:") else ""
    if kind in ("http", "https", "databricks"):
        return _from_server(uri, report)
    if kind in ("", "file"):
        path = Path(unquote(urlsplit(uri).path) if kind else uri).expanduser()
        return _from_path(path, report)
    return _from_database(uri, report)


def _from_path(path: Path, report: Report) -> Iterator[ForeignRun]:
    if path.is_file():
        return _from_database(f"sqlite:///{path.absolute()}", report)
    if not path.is_dir():
        raise BadInput(f"no MLflow store at {str(path)!r}", hint=_HINT)
    for folder in (path, path / "mlruns"):
        if next(folder.glob("*/meta.yaml"), None) is not None:
            return runs_in_folder(folder, report)
    if (path / "mlflow.db").is_file():
        return _from_database(f"sqlite:///{(path / 'mlflow.db').absolute()}", report)
    raise BadInput(
        f"no MLflow store at {str(path)!r}: neither mlflow.db nor experiment folders found", hint=_HINT
    )


# A database ------------------------------------------------------------------------------------------


def _from_database(uri: str, report: Report) -> Iterator[ForeignRun]:
    from sqlalchemy import create_engine, event, inspect, make_url, text
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    try:
        url = make_url(uri)
        options: dict[str, Any] = {}
        sqlite = url.get_backend_name() == "sqlite"
        if sqlite:
            path = Path(str(url.database))
            if not path.is_file():
                raise BadInput(f"no MLflow store at {str(path)!r}", hint=_HINT)
            url = make_url(f"sqlite:///file:{quote(str(path.absolute()))}?mode=ro&uri=true")
            options["module"] = sqlite_module()
        elif url.drivername in ("postgres", "postgresql"):
            url = url.set(drivername="postgresql+psycopg")
        engine = create_engine(url, **options)
        if sqlite:
            event.listen(engine, "connect", _take_any_text)
    except ArgumentError:
        raise BadInput(f"{uri!r} is not the URL of an MLflow store", hint=_HINT) from None
    except ModuleNotFoundError as error:
        raise BadInput(f"the driver for {url.drivername} is not installed: {error}") from None
    required = {"experiments", "runs", "metrics", "params", "tags"}
    try:
        if not required <= set(inspect(engine).get_table_names()):
            raise BadInput(f"the database at {url.render_as_string()} is not an MLflow database", hint=_HINT)
        query = partial(_rows, engine)
        report.leave_out("deleted runs", query(text(_DELETED))[0][0])
        runs = query(text(_RUNS))
        params, tags = _pairs(query(text(_PARAMS))), _pairs(query(text(_TAGS)))
    except SQLAlchemyError as error:
        raise _unreadable(error) from error
    # SQLite keeps the insertion order; elsewhere order by time, then by step within a millisecond.
    order = "rowid" if sqlite else "timestamp, step"
    for run_id, name, status, begun, ended, user, artifacts, experiment in runs:
        about = {"user": user, "artifact_uri": artifacts}
        problems = RunProblems(f"run {run_id}", about, report)
        yield foreign_run(
            str(run_id),
            str(experiment),
            str(name or ""),
            status,
            (begun, ended),
            params.get(run_id, {}),
            tags.get(run_id, {}),
            about,
            partial(_curves, engine, run_id, order, problems),
            problems,
        )


def _take_any_text(connection: Any, _: Any) -> None:
    """Read text of SQLite that is not UTF-8 with its bytes escaped, rather than failing."""
    connection.text_factory = lambda data: data.decode("utf-8", "backslashreplace")


def _unreadable(error: Exception) -> StoreError:
    return StoreError(f"MLflow's database cannot be read: {error}")


_RUNS = """select r.run_uuid, r.name, r.status, r.start_time, r.end_time, r.user_id, r.artifact_uri, e.name
    from runs r join experiments e on e.experiment_id = r.experiment_id
    where r.lifecycle_stage = 'active' and e.lifecycle_stage = 'active' order by r.start_time, r.run_uuid"""


_PARAMS, _TAGS = (f"select run_uuid, key, value from {table}" for table in ("params", "tags"))  # noqa: S608


_DELETED = """select count(*) from runs r join experiments e on e.experiment_id = r.experiment_id
    where r.lifecycle_stage <> 'active' or e.lifecycle_stage <> 'active'"""


def _rows(engine: Any, statement: Any, **values: Any) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(statement, values).all())


def _curves(
    engine: Any, run_id: str, order: str, problems: RunProblems, fallback: float
) -> Iterator[tuple[str, Batch]]:
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    every = text("select distinct key from metrics where run_uuid = :run order by key")
    try:
        names = _rows(engine, every, run=run_id)
    except SQLAlchemyError as error:
        raise _unreadable(error) from error
    points = text(
        "select step, timestamp, value, is_nan from metrics where run_uuid = :run and key = :key "  # noqa: S608
        f"order by {order}"
    )
    for (name,) in names:
        try:
            rows = _rows(engine, points, run=run_id, key=name)
        except SQLAlchemyError as error:
            raise _unreadable(error) from error
        logged = ((step, at, _logged(value, is_nan)) for step, at, value, is_nan in rows)
        yield str(name), points_of(logged, f"metric {name}", fallback, problems)


def _logged(value: Any, is_nan: Any) -> Any:
    return number_of(value, bool(is_nan)) if isinstance(value, float) or is_nan else value


def _pairs(rows: list[Any]) -> dict[str, dict[str, str]]:
    out: dict[str, dict[str, str]] = {}
    for run_id, key, value in rows:
        out.setdefault(run_id, {})[str(key)] = str(value or "")
    return out


# A server --------------------------------------------------------------------------------------------


def _from_server(uri: str, report: Report) -> Iterator[ForeignRun]:
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError:
        raise MissingExtra("MLflow's client (needed to read from a server)", "mlflow") from None
    client = MlflowClient(tracking_uri=uri)
    try:
        for experiment in _pages(client.search_experiments):
            for run in _pages(partial(client.search_runs, [experiment.experiment_id])):
                info = run.info
                about = {"user": info.user_id, "artifact_uri": info.artifact_uri}
                problems = RunProblems(f"run {info.run_id}", about, report)
                yield foreign_run(
                    info.run_id,
                    experiment.name,
                    info.run_name or "",
                    info.status,
                    (info.start_time, info.end_time),
                    run.data.params,
                    run.data.tags,
                    about,
                    partial(_history, client, info.run_id, sorted(run.data.metrics), problems),
                    problems,
                )
    except MlflowException as error:
        raise BadInput(f"the MLflow server at {uri} does not answer: {error}") from error


def _pages(ask: Any) -> Iterator[Any]:
    token = None
    while True:
        page = ask(page_token=token)
        yield from page
        if not (token := page.token):
            return


def _history(
    client: Any, run_id: str, names: list[str], problems: RunProblems, fallback: float
) -> Iterator[tuple[str, Batch]]:
    from mlflow.exceptions import MlflowException

    for name in names:
        try:
            points = sorted(client.get_metric_history(run_id, name), key=lambda point: point.timestamp)
        except MlflowException as error:
            problems.leave_out(f"metric {name}: the server did not send it ({error})")
            continue
        logged = ((point.step, point.timestamp, number_of(point.value)) for point in points)
        yield name, points_of(logged, f"metric {name}", fallback, problems)
