"""Every query there is.

A :class:`Store` is one database: SQLite in a file, or PostgreSQL. Each method is one transaction that
either happened or did not. Ids are whole numbers counted from 1, times are seconds since 1970, and a
thing that is not there is None (the callers turn that into an error that names it).

A job moves only if it was what the mover thought: :meth:`Store.move_job` is the one statement that
changes a status, it names the status (and the attempt) it expects, and says whether it moved anything.
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
