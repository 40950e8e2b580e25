"""Files on their way into a workspace: written beside, checked, and moved into their place whole.

What is sent arrives in parts on the server's loop and is written by a thread. Until all of it is there and is
what was promised, it has no name that anybody would look for; whatever is cut off leaves nothing.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from contextlib import suppress
from pathlib import Path

from workbench.errors import BadInput

#: A file that is sent may have this many bytes, unless the server is told otherwise.
FILE_BYTES = 2**32

#: So many bytes are written, or read, at once.
PART_BYTES = 2**20

#: Seconds after which who sends a file, and sends nothing more of it, is cut off.
STALLED_SECONDS = 120.0

#: Seconds after which what a server that was killed left half way is removed.
_STALE_SECONDS = 86_400.0


class Upload:
    """One file that is being sent.

    Parameters
    ----------
    folder : Path
        Where it is written; on the disk of the place it will go to.
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
        """Add a part; what goes wrong is said by :meth:`check`, when all has been sent."""
        with self._lock:
            if self._file.closed or self._error is not None:
                return
            try:
                self._file.write(data)
                self._sum.update(data)
            except OSError as error:  # a full disk
                self._error = error

    def check(self, sha256: str) -> None:
        """Raise unless what has arrived is what was promised.

        Raises
        ------
        BadInput
            It is something else.
        OSError
            It could not be written.
        """
        with self._lock:
            if self._error is not None:
                raise self._error
            self._file.close()
        if self._sum.hexdigest() != sha256:
            raise BadInput(
                f"what arrived has the sha256 {self._sum.hexdigest()}, not {sha256}",
                hint="The file was changed while it was sent, or the connection damages it; send it again.",
            )

    def discard(self) -> None:
        """Remove what is left here; after it was moved into its place that is nothing."""
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
