"""Import runs from MLflow: from its database, its file store, or its server.

Databases and folders are read directly, without MLflow and read-only, so that the MLflow version does not
matter. A server is read through MLflow's client.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from workbench.errors import BadInput, MissingExtra, StoreError
from workbench.runs.imports import ForeignRun, Imported, OnProgress, bring
from workbench.store.engines import sqlite_module
from workbench.store.points import Batch
from workbench.store.store import Store

_STATUS = {
    "RUNNING": "running",
    "SCHEDULED": "running",
    "FINISHED": "succeeded",
    "FAILED": "failed",
    "KILLED": "cancelled",
}


#: Status numbers in run files.
_NUMBERS = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}


#: MLflow's databases store the largest float in place of infinity.
_GREATEST = 1.7976931348623157e308


_HINT = "Give sqlite:///path/mlflow.db, postgresql://…, an mlruns folder, or https://server."


def import_mlflow(store: Store, uri: str, on_progress: OnProgress | None = None) -> Imported:
    """Import the runs of an MLflow store; see ``Workspace.import_mlflow``."""
    passed_over: Counter[str] = Counter()
    runs = list(_read(str(uri), passed_over))
    return bring(store, runs, dict(passed_over), on_progress)


def _read(uri: str, passed_over: Counter[str]) -> Iterator[ForeignRun]:
    kind = urlsplit(uri).scheme if "://" in uri or uri.startswith("file:") else ""
    if kind in ("http", "https", "databricks"):
        return _from_server(uri)
    if kind in ("", "file"):
        path = Path(unquote(urlsplit(uri).path) if kind else uri).expanduser()
        return _from_path(path, passed_over)
    return _from_database(uri, passed_over)


def _from_path(path: Path, passed_over: Counter[str]) -> Iterator[ForeignRun]:
    if path.is_file():
        return _from_database(f"sqlite:///{path.absolute()}", passed_over)
    if not path.is_dir():
        raise BadInput(f"no MLflow store at {str(path)!r}", hint=_HINT)
    for folder in (path, path / "mlruns"):
        if next(folder.glob("*/meta.yaml"), None) is not None:
            return _from_files(folder, passed_over)
    if (path / "mlflow.db").is_file():
        return _from_database(f"sqlite:///{(path / 'mlflow.db').absolute()}", passed_over)
    raise BadInput(
        f"no MLflow store at {str(path)!r}: neither mlflow.db nor experiment folders found", hint=_HINT
    )


def _foreign(
    run_id: str,
    experiment: str,
    name: str,
    status: str,
    times: tuple[float | None, float | None],
    params: Mapping[str, str],
    tags: Mapping[str, str],
    about: Mapping[str, Any],
    metrics: Any,
) -> ForeignRun:
    """Return a run in the workbench's terms; MLflow's system tags go to other columns."""
    system = {key: value for key, value in tags.items() if key.startswith("mlflow.")}
    git = {
        "commit": system.get("mlflow.source.git.commit"),
        "branch": system.get("mlflow.source.git.branch"),
        "dirty": None,
    }
    begun, ended = times
    return ForeignRun(
        origin=f"mlflow:{run_id}",
        experiment=experiment,
        name=name or system.get("mlflow.runName", "") or run_id,
        status=_STATUS.get(status, "lost"),
        created_at=begun or 0.0,
        finished_at=ended if ended is not None or status in ("RUNNING", "SCHEDULED") else begun,
        metrics=metrics,
        config={key: _value(text) for key, text in sorted(params.items())},
        tags={key: value for key, value in sorted(tags.items()) if key not in system},
        notes=system.get("mlflow.note.content", ""),
        git=git if git["commit"] else {},
        environment={"mlflow": {**{k: v for k, v in about.items() if v is not None}, "tags": system}},
    )


def _value(text: str) -> Any:
    """Return a parameter's value if its text is unambiguous: MLflow stores only text."""
    if text in ("True", "False", "None"):
        return {"True": True, "False": False, "None": None}[text]
    for kind in (int, float):
        try:
            value: Any = kind(text)
        except ValueError:
            continue
        if str(value) == text and text not in ("nan", "inf", "-inf"):
            return value
    return text


def _number(value: float, is_nan: bool = False) -> float:
    if is_nan:
        return float("nan")
    return value if abs(value) != _GREATEST else value * 10  # overflows to infinity


# A database ------------------------------------------------------------------------------------------


def _from_database(uri: str, passed_over: Counter[str]) -> Iterator[ForeignRun]:
    from sqlalchemy import create_engine, inspect, make_url, text
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
    except ArgumentError:
        raise BadInput(f"{uri!r} is not the URL of an MLflow store", hint=_HINT) from None
    except ModuleNotFoundError as error:
        raise BadInput(f"the driver for {url.drivername} is not installed: {error}") from None
    required = {"experiments", "runs", "metrics", "params", "tags"}
    try:
        if not required <= set(inspect(engine).get_table_names()):
            raise BadInput(f"the database at {url.render_as_string()} is not an MLflow database", hint=_HINT)
        query = partial(_rows, engine)
        passed_over["deleted runs"] += query(text(_DELETED))[0][0]
        runs = query(text(_RUNS))
        params, tags = _pairs(query(text(_PARAMS))), _pairs(query(text(_TAGS)))
    except SQLAlchemyError as error:
        raise StoreError(f"MLflow's database cannot be read: {error}") from error
    # SQLite keeps the insertion order; elsewhere order by time, then by step within a millisecond.
    order = "rowid" if sqlite else "timestamp, step"
    for run_id, name, status, begun, ended, user, artifacts, experiment in runs:
        yield _foreign(
            run_id,
            experiment,
            name or "",
            status,
            (_seconds(begun), _seconds(ended)),
            params.get(run_id, {}),
            tags.get(run_id, {}),
            {"run_id": run_id, "status": status, "user": user, "artifact_uri": artifacts},
            partial(_curves, engine, run_id, order),
        )


_RUNS = """select r.run_uuid, r.name, r.status, r.start_time, r.end_time, r.user_id, r.artifact_uri, e.name
    from runs r join experiments e on e.experiment_id = r.experiment_id
    where r.lifecycle_stage = 'active' and e.lifecycle_stage = 'active' order by r.start_time, r.run_uuid"""


_PARAMS, _TAGS = (f"select run_uuid, key, value from {table}" for table in ("params", "tags"))  # noqa: S608


_DELETED = """select count(*) from runs r join experiments e on e.experiment_id = r.experiment_id
    where r.lifecycle_stage <> 'active' or e.lifecycle_stage <> 'active'"""


def _rows(engine: Any, statement: Any, **values: Any) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(statement, values).all())


def _curves(engine: Any, run_id: str, order: str) -> Iterator[tuple[str, Batch]]:
    from sqlalchemy import text

    every = text("select distinct key from metrics where run_uuid = :run order by key")
    names = _rows(engine, every, run=run_id)
    points = text(
        "select step, timestamp, value, is_nan from metrics where run_uuid = :run and key = :key "  # noqa: S608
        f"order by {order}"
    )
    for (name,) in names:
        rows = _rows(engine, points, run=run_id, key=name)
        yield (
            name,
            Batch(
                [int(row[0]) for row in rows],
                [row[1] / 1000 for row in rows],
                [_number(row[2], bool(row[3])) for row in rows],
            ),
        )


def _pairs(rows: list[Any]) -> dict[str, dict[str, str]]:
    out: dict[str, dict[str, str]] = {}
    for run_id, key, value in rows:
        out.setdefault(run_id, {})[key] = value or ""
    return out


def _seconds(milliseconds: Any) -> float | None:
    return None if milliseconds is None else int(milliseconds) / 1000


# A folder --------------------------------------------------------------------------------------------


def _from_files(folder: Path, passed_over: Counter[str]) -> Iterator[ForeignRun]:
    for about in sorted(folder.glob("*/meta.yaml")):
        experiment = _meta(about)
        active = experiment.get("lifecycle_stage", "active") == "active"
        for file in sorted(about.parent.glob("*/meta.yaml")):
            run = _meta(file)
            if "run_id" not in run and "run_uuid" not in run:
                continue  # a model of the experiment, or something else
            if not active or run.get("lifecycle_stage", "active") != "active":
                passed_over["deleted runs"] += 1
                continue
            run_id = str(run.get("run_id") or run["run_uuid"])
            status = run.get("status", "")
            status = _NUMBERS.get(status, str(status))
            yield _foreign(
                run_id,
                str(experiment.get("name", about.parent.name)),
                str(run.get("run_name") or ""),
                status,
                (_seconds(run.get("start_time")), _seconds(run.get("end_time"))),
                _texts(file.parent / "params"),
                _texts(file.parent / "tags"),
                {
                    "run_id": run_id,
                    "status": status,
                    "user": run.get("user_id"),
                    "artifact_uri": run.get("artifact_uri"),
                },
                partial(_lines, file.parent / "metrics"),
            )
    passed_over["deleted runs"] += sum(1 for _ in (folder / ".trash").glob("*/*/meta.yaml"))


def _meta(path: Path) -> dict[str, Any]:
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from None
    if not isinstance(data, dict):
        raise BadInput(f"{path} does not describe an experiment or a run")
    return data


def _texts(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _lines(folder: Path) -> Iterator[tuple[str, Batch]]:
    """Yield the metrics of one run: one file per metric, one line per point (time in ms, value, step)."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        steps, times, values = [], [], []
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                at, value, *rest = line.split()
                times.append(int(at) / 1000)
                values.append(float(value))
                steps.append(int(rest[0]) if rest else 0)
            except ValueError:
                raise BadInput(f"{path}, line {number}: {line!r} is not an MLflow metric") from None
        if values:
            yield path.relative_to(folder).as_posix(), Batch(steps, times, values)


# A server --------------------------------------------------------------------------------------------


def _from_server(uri: str) -> Iterator[ForeignRun]:
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError:
        raise MissingExtra("MLflow's client (needed to read from a server)", "mlflow") from None
    client = MlflowClient(tracking_uri=uri)
    try:
        for experiment in _pages(client.search_experiments):
            for run in _pages(partial(client.search_runs, [experiment.experiment_id])):
                about = run.info
                yield _foreign(
                    about.run_id,
                    experiment.name,
                    about.run_name or "",
                    about.status,
                    (_seconds(about.start_time), _seconds(about.end_time)),
                    run.data.params,
                    run.data.tags,
                    {
                        "run_id": about.run_id,
                        "status": about.status,
                        "user": about.user_id,
                        "artifact_uri": about.artifact_uri,
                    },
                    partial(_history, client, about.run_id, sorted(run.data.metrics)),
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


def _history(client: Any, run_id: str, names: list[str]) -> Iterator[tuple[str, Batch]]:
    for name in names:
        points = sorted(client.get_metric_history(run_id, name), key=lambda point: point.timestamp)
        yield (
            name,
            Batch(
                [int(point.step) for point in points],
                [point.timestamp / 1000 for point in points],
                [_number(point.value) for point in points],
            ),
        )
