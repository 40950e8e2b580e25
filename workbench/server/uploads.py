"""Uploads into a workspace: written to a temporary file, checked, and moved into place complete.

The parts arrive on the server's event loop and are written by a thread. Until a file is complete and its
checksum matches, it has a temporary name; an aborted upload leaves nothing.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from contextlib import suppress
from pathlib import Path

from workbench.errors import BadInput

#: Default maximum size of an uploaded file, in bytes.
FILE_BYTES = 2**32

#: Bytes per read or write.
PART_BYTES = 2**20

#: Default seconds without data after which an upload is aborted.
STALLED_SECONDS = 120.0

#: Seconds after which the temporary files of a killed server are removed.
_STALE_SECONDS = 86_400.0


class Upload:
    """One file that is being uploaded.

    Parameters
    ----------
    folder : Path
        Folder of the temporary file; on the same disk as its destination.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        self.path = folder / f"{secrets.token_hex(16)}.part"
        self._file = self.path.open("xb")
        self._sum = hashlib.sha256()
        self._lock = threading.Lock()
        self._error: OSError | None = None

    def write(self, data: bytes) -> None:
        """Add a part; an error is raised by :meth:`check`, after the last part."""
        with self._lock:
            if self._file.closed or self._error is not None:
                return
            try:
                self._file.write(data)
                self._sum.update(data)
            except OSError as error:  # a full disk
                self._error = error

    def check(self, sha256: str) -> None:
        """Raise unless the file was written and its checksum matches.

        Raises
        ------
        BadInput
            The checksum differs.
        OSError
            The file could not be written.
        """
        with self._lock:
            if self._error is not None:
                raise self._error
            self._file.close()
        if self._sum.hexdigest() != sha256:
            raise BadInput(
                f"the received file has sha256 {self._sum.hexdigest()}, expected {sha256}",
                hint="The file changed during the upload, or the connection corrupted it; send it again.",
            )

    def discard(self) -> None:
        """Remove the temporary file, unless it has been moved into place."""
        with self._lock:
            with suppress(OSError):
                self._file.close()
            self.path.unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    before = time.time() - _STALE_SECONDS
    for path in folder.glob("*.part"):
        with suppress(OSError):
            if path.stat().st_mtime < before:
                path.unlink()
