"""Makes system calls and the database fail in every process of a stack; installed as ``sitecustomize``.

``$SABOTAGE`` is a folder. While a file of that name is in it, with a probability as its text, ``fsync`` and
``replace`` raise EIO, and ``commit`` says EIO of a transaction that was rolled back, or that was committed
all the same. What was hit is noted in ``hits``; a file whose fsync failed and that is synced again, in
``retried``. The test's own notes are left alone.
"""

import errno
import os
import random
from pathlib import Path

_FOLDER = Path(os.environ["SABOTAGE"])
_fsync, _replace = os.fsync, os.replace
_failed = set()


def _strikes(name):
    try:
        return random.random() < float((_FOLDER / name).read_text() or 0)
    except (OSError, ValueError):
        return False


def _note(name, text):
    file = os.open(_FOLDER / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{text}\n".encode())
    os.close(file)


def fsync(file):
    number = file if isinstance(file, int) else file.fileno()
    status = os.fstat(number)
    name = str(Path(f"/proc/self/fd/{number}").readlink())
    same = (status.st_dev, status.st_ino, status.st_ctime_ns)
    if same in _failed:
        _note("retried", name)
    if "/notes/" not in name and _strikes("fsync"):
        _failed.add(same)
        _note("hits", f"fsync {name}")
        raise OSError(errno.EIO, "Input/output error")
    _fsync(number)


def replace(source, target, **more):
    if _strikes("replace"):
        _note("hits", f"replace {target}")
        raise OSError(errno.EIO, "Input/output error", os.fspath(target))
    _replace(source, target, **more)


def _faulty(driver):
    class Connection(driver.Connection):
        def commit(self):
            if self.in_transaction and _strikes("commit"):
                done = random.random() < 0.5
                _note("hits", "commit that was made" if done else "commit")
                super().commit() if done else super().rollback()
                raise driver.OperationalError("disk I/O error")
            super().commit()

    connect = driver.connect

    def faulty(*given, **more):
        return connect(*given, **{"factory": Connection, **more})

    driver.connect = faulty


os.fsync, os.replace = fsync, replace
try:
    from pysqlite3 import dbapi2
except ImportError:
    import sqlite3 as dbapi2
_faulty(dbapi2)
