"""The database as the rest of the workbench sees it: one class with a method for each question and change.

A :class:`Store` is one database: SQLite in a file, or PostgreSQL. Each method is one transaction that
either happened or did not. Ids are whole numbers counted from 1, times are seconds since 1970, and
something missing is None (the callers turn that into an error that names it). The methods stand in the
modules of this folder, by what they are about; the statements that read and write metric points are in
:mod:`workbench.store.points`.

A job moves only if it was what the mover thought. Two methods change its status: :meth:`Store.claim_job`
takes a queued job for a worker, and :meth:`Store.move_job` makes every other move. Both name the status they
expect in the statement itself (:meth:`Store.move_job` the attempt too) and say whether anything moved.
"""

from __future__ import annotations

from workbench.store.ingest import Ingest
from workbench.store.jobs import JobQueries
from workbench.store.kept_files import KeptFileQueries


class Store(Ingest, KeptFileQueries, JobQueries):
    """One database of experiments, runs, metrics, jobs and results.

    Parameters
    ----------
    url : str or path
        A path of an SQLite file (made if it is not there), or an SQLAlchemy URL: ``sqlite:///…`` or
        ``postgresql://…``.

    Raises
    ------
    MissingExtra
        PostgreSQL was asked for and its driver is not installed.
    StoreError
        The database cannot be opened, or was made by a newer version.
    """
