"""The keeper: cleans up after a worker that was killed, and starts a new worker to settle its jobs.

A killed process cannot clean up after itself. The runner and the kernel die with the worker because the
system kills them; processes that the kernel started do not. So each worker has a keeper, a small process in a
session of its own, which is told of every attempt through a pipe. When the pipe closes without a goodbye, the
worker is dead: the keeper kills every process that carries the token of one of its attempts, and starts a
worker in the background, which corrects the states.

A process that is frozen, or waits for a server that does not answer, cannot stop its work either. If other
hosts may take over a silent worker's jobs, the keeper ends them first, so that no job runs twice at once.

The pipe carries one word per line: ``+token`` when an attempt starts, ``-token`` when all its processes are
gone, ``~time`` when the leases were renewed, ``.`` for goodbye. The time is that of the system's monotonic
clock: a keeper that was held up itself reads when it was.
"""

from __future__ import annotations

import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence

from workbench.host import processes
from workbench.host.processes import DEATHS

#: A worker that dies within this many seconds, this many times in a row (second value), is not restarted.
YOUNG_SECONDS, YOUNG_DEATHS = 30.0, 5


#: Seconds that a keeper has to exit.
_GOODBYE_SECONDS = 2.0


class Keeper:
    """A worker's side of its keeper.

    Parameters
    ----------
    restart : sequence of str
        Command that starts a worker in the background.
    silent_seconds : float
        After this long without :meth:`renewed`, running attempts are ended; infinite if no other worker could
        take them over.
    """

    def __init__(self, restart: Sequence[str], silent_seconds: float = math.inf) -> None:
        self._command = [sys.executable, "-m", "workbench.jobs.worker.keeper", str(silent_seconds), *restart]
        self._process: subprocess.Popen[bytes] | None = None
        self._tokens: set[str] = set()

    def begin(self, token: str) -> None:
        """Report that an attempt starts, before its first process does."""
        self._tokens.add(token)
        self._say(f"+{token}")

    def end(self, token: str) -> None:
        """Report that all processes of an attempt are gone."""
        self._tokens.discard(token)
        self._say(f"-{token}")

    def renewed(self) -> None:
        """Report that the leases of all attempts were renewed."""
        self._say(f"~{time.monotonic()}")

    def goodbye(self) -> None:
        """End the keeper, because the worker exits normally."""
        if self._process is None:
            return
        self._say(".")
        self._leave()

    def check(self) -> None:
        """Start the keeper if it is not running."""
        if self._process is not None and self._process.poll() is None:
            return
        self._leave()
        self._process = subprocess.Popen(  # noqa: S603  # this interpreter and our own module
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
        )
        assert self._process.stdin is not None  # noqa: S101  # it was asked for
        os.set_blocking(self._process.stdin.fileno(), False)
        for token in self._tokens:
            self._say(f"+{token}")

    def _say(self, word: str) -> None:
        process = self._process
        if process is None or process.stdin is None or process.stdin.closed:
            return
        try:
            if process.stdin.write(f"{word}\n".encode()) is None:
                process.kill()  # its pipe is full: it has not read for hours, so it is stopped or stuck
        except BrokenPipeError:
            return  # it was killed; the next check starts a new one

    def _leave(self) -> None:
        if self._process is None:
            return
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(_GOODBYE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def keep(pipe: int, restart: Callable[[], object], silent_seconds: float = math.inf) -> None:
    """Listen until the pipe closes; without a goodbye, end all attempts and start a worker.

    Parameters
    ----------
    pipe : int
        File descriptor of the pipe.
    restart : callable
        Starts a worker.
    silent_seconds : float
        End all attempts if the leases were not renewed for this long.
    """
    tokens: set[str] = set()
    renewed = time.monotonic()
    unread = b""
    while True:
        left = renewed + silent_seconds - time.monotonic() if tokens else math.inf
        # What the worker has said is read first, also by a keeper that was held up for longer than that.
        if not select.select([pipe], [], [], None if left == math.inf else max(left, 0.0))[0]:
            end_all(tokens)  # the worker notices when it continues
            renewed = time.monotonic()
            continue
        if not (chunk := os.read(pipe, 65536)):
            break
        *words, unread = (unread + chunk).split(b"\n")
        for word in map(bytes.decode, words):
            if word == ".":
                return
            if word.startswith("~"):  # a worker of an earlier version says no time
                renewed = float(word[1:] or time.monotonic())
            elif word.startswith("+"):
                renewed = renewed if tokens else time.monotonic()  # claiming a job starts its lease
                tokens.add(word[1:])
            else:
                tokens.discard(word[1:])
    end_all(tokens)
    restart()


def end_all(tokens: Iterable[str]) -> None:
    """Kill everything that carries one of the tokens."""
    for token in sorted(tokens):
        processes.kill_family(None, token)
        processes.remove_runtime(token)


def _restart(command: Sequence[str], lived: float) -> None:
    deaths = int(os.environ.get(DEATHS) or 0) + 1 if lived < YOUNG_SECONDS else 0
    if deaths >= YOUNG_DEATHS:
        print(f"the worker died {deaths} times in a row; it is not started again", file=sys.stderr)
        return
    if command:
        subprocess.Popen(  # noqa: S603  # the worker's own command
            list(command), stdin=subprocess.DEVNULL, env={**os.environ, DEATHS: str(deaths)}
        )


def main() -> int:
    """Keep the worker at the other end of standard input.

    The arguments are the seconds without renewal after which attempts are ended, and the command that starts
    another worker.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it exits with its worker, not with its terminal
    began = time.monotonic()
    silent_seconds, command = float(sys.argv[1]), sys.argv[2:]
    keep(sys.stdin.fileno(), lambda: _restart(command, time.monotonic() - began), silent_seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
