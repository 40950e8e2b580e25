"""The interface to the database: one class with one method per query and change.

A :class:`Store` is one database: an SQLite file, or PostgreSQL. Each method is one atomic transaction. Ids
are whole numbers from 1, times are seconds since 1970, and a missing row is None (callers raise the error
that names it). The methods are in the modules of this folder, by topic; the statements that read and write
metric points are in :mod:`workbench.store.points`.

A job changes state only if it is in the state that the caller expects. Two methods change its status:
:meth:`Store.claim_job` takes a queued job for a worker, and :meth:`Store.move_job` makes every other move.
Both check the expected status in the statement itself (:meth:`Store.move_job` also the attempt) and report
whether the job moved.
"""

from __future__ import annotations

from workbench.store.ingest import Ingest
from workbench.store.kept_files import KeptFileQueries
from workbench.store.order import OrderQueries


class Store(Ingest, KeptFileQueries, OrderQueries):
    """One database of experiments, runs, metrics, jobs and results.

    Parameters
    ----------
    url : str or path
        The path of an SQLite file (created if missing), or an SQLAlchemy URL: ``sqlite:///…`` or
        ``postgresql://…``.

    Raises
    ------
    MissingExtra
        The URL is PostgreSQL's and its driver is not installed.
    StoreError
        The database cannot be opened, or was created by a newer version.
    """
