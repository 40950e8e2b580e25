"""Save a notebook during execution, so that the file is valid at all times."""

from __future__ import annotations

import contextlib
import sys
import time
from contextlib import closing
from hmac import compare_digest
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError
from workbench.host.files import write_whole

#: Interval between saves of the executed notebook while the kernel sends messages, in seconds.
SAVE_SECONDS = 1.0

#: Largest part of the time that saving may take; a large notebook is saved less often.
SAVE_SHARE = 0.05


class NotSaved(WorkbenchError):
    """The final state of an executed notebook could not be saved."""


class NotebookSaver:
    """Writes the notebook to its path, atomically."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notebook: Any = None
        self.changed = False
        self._next_at = 0.0
        self._last_signature = ""

    def save(self, *, force: bool = False, touch: bool = False) -> None:
        """Save the notebook if it has changed and a save is due; with ``force``, save at once."""
        self.changed |= touch
        began = time.monotonic()
        due = self.changed and began >= self._next_at
        if self.notebook is None or not (force or due):
            return
        try:
            self._write()
        except OSError as error:
            if force:
                raise
            # A temporarily full disk is no reason to stop; only the last save must succeed.
            with contextlib.suppress(OSError):
                print(f"the notebook could not be saved: {error}", file=sys.stderr, flush=True)
            return
        finally:
            took = time.monotonic() - began
            self._next_at = began + max(SAVE_SECONDS, took / SAVE_SHARE)
        self.changed = False

    def save_at_last(self, failure: BaseException | None = None) -> None:
        """Save the final state. If the execution failed, that failure remains the one reported.

        Raises
        ------
        WorkbenchError
            The notebook could not be saved, and the execution itself did not fail.
        """
        try:
            self.save(force=True)
        except OSError as error:
            problem = f"the executed notebook could not be saved: {error.strerror or error}"
            if failure is None:
                hint = "Outputs since the last save are lost; a result that the job saved is kept."
                raise NotSaved(problem, hint=hint) from error
            with contextlib.suppress(OSError):
                print(problem, file=sys.stderr, flush=True)
            return
        if self.notebook is not None:
            sign(self.path)
            _noted(self.path).unlink(missing_ok=True)

    def _note_signature(self, text: str) -> None:
        """Note the signature of what is written next beside that of what is there; see :func:`sign_if_ours`.

        To sign each save itself would fill Jupyter's database of signatures, and push out those of others.
        """
        import nbformat

        with contextlib.suppress(Exception):  # then a runner that is killed leaves an unsigned notebook
            # As a Jupyter server reads it.
            signature = _notary().compute_signature(nbformat.reads(text, as_version=4))  # type: ignore[no-untyped-call]
            note = _noted(self.path)
            beside = note.with_name(f"{note.name}.part")
            try:
                beside.write_text(f"{self._last_signature}\n{signature}\n", encoding="ascii")
                beside.replace(note)
            finally:
                beside.unlink(missing_ok=True)  # where the disk is full
            self._last_signature = signature

    def _write(self) -> None:
        import nbformat.v4

        # Without nbformat's validation, which takes longer than the rest: papermill has validated the input.
        text: str = nbformat.v4.writes(self.notebook)  # type: ignore[no-untyped-call]
        self._note_signature(text)
        write_whole(self.path, (text + "\n").encode(), crash_at="notebook-written")


def _noted(path: Path) -> Path:
    """Return the file with the signatures of what a notebook is and of what it is about to become."""
    return path.with_name(f".{path.stem}.signatures")


def sign_if_ours(path: Path) -> bool:
    """Sign a notebook whose runner was killed, if it is what the runner saved; return whether it is.

    The runner noted the signature of what it saved. That takes a secret of this user, so a file that somebody
    edited since, or wrote together with a note, has none. Never raises.
    """
    try:
        noted = _noted(path).read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return False
    try:
        import nbformat

        with closing(_notary()) as notary:
            signature = notary.compute_signature(nbformat.read(path, as_version=4))  # type: ignore[no-untyped-call]
            if not any(compare_digest(signature, one) for one in noted):
                return False
            notary.store.store_signature(signature, notary.algorithm)
        _noted(path).unlink(missing_ok=True)
    except Exception:  # it stays as it is
        return False
    return True


def sign(path: Path) -> None:
    """Sign a notebook that this user's own code has just written, so that Jupyter trusts what it shows.

    Without a signature, JupyterLab removes styles and drawings. If it cannot be signed, it stays as it is.
    """
    import nbformat

    try:
        with closing(_notary()) as notary:
            notary.sign(nbformat.read(path, as_version=4))  # type: ignore[no-untyped-call]
    except Exception as error:  # a report without styles is better than a failed job
        with contextlib.suppress(OSError):
            print(f"the notebook could not be signed: {error}", file=sys.stderr, flush=True)


def _notary() -> Any:
    """Return what signs as this user's Jupyter server does; the signature is one of a notebook's content."""
    from jupyter_core.paths import jupyter_data_dir
    from nbformat.sign import NotebookNotary

    folder = Path(jupyter_data_dir())
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # this may be the first use of Jupyter
    return NotebookNotary(data_dir=str(folder))  # type: ignore[no-untyped-call]
