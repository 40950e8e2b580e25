"""What stays when a worker is killed: it ends what ran there, and starts a worker that settles the rest.

A process that is killed cannot clean up after itself. The runner and the kernel die with the worker because
the system kills them; what the kernel had started does not. So a worker has a keeper beside it, a small
process in a session of its own, which hears of every attempt through a pipe. When the pipe closes without a
goodbye the worker is dead: the keeper kills every process that carries one of the attempts' tokens and starts
a worker in the background, which sets the states right.

Nor can a process stop its work that is frozen, or waits for a server that does not answer. Where others may
take a silent worker's jobs, the keeper ends them before that: nothing may run twice at once.

The pipe carries one word a line: ``+token`` an attempt begins, ``-token`` nothing of it is left, ``~`` the
leases were renewed, ``.`` goodbye.
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

#: A worker that dies younger than this, in seconds, so many times in a row is not started again.
YOUNG_SECONDS, YOUNG_DEATHS = 30.0, 5


#: Seconds that a keeper is given to leave.
_GOODBYE_SECONDS = 2.0


class Keeper:
    """A worker's side of its keeper.

    Parameters
    ----------
    restart : sequence of str
        Command that starts a worker in the background.
    silent_seconds : float
        Without :meth:`renewed` for so long, what runs is ended; infinite where nobody else could take it.
    """

    def __init__(self, restart: Sequence[str], silent_seconds: float = math.inf) -> None:
        self._command = [sys.executable, "-m", "workbench.jobs.worker.keeper", str(silent_seconds), *restart]
        self._process: subprocess.Popen[bytes] | None = None
        self._tokens: set[str] = set()

    def begin(self, token: str) -> None:
        """Say that an attempt begins, before anything of it does."""
        self._tokens.add(token)
        self._say(f"+{token}")

    def end(self, token: str) -> None:
        """Say that nothing of an attempt is left."""
        self._tokens.discard(token)
        self._say(f"-{token}")

    def renewed(self) -> None:
        """Say that the leases of all attempts hold."""
        self._say("~")

    def goodbye(self) -> None:
        """Let the keeper go: the worker leaves in order."""
        if self._process is None:
            return
        self._say(".")
        self._leave()

    def check(self) -> None:
        """Start the keeper where there is none, or where it was killed."""
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
                process.kill()  # its pipe is full: for hours it has not listened; it is stopped, or stuck
        except BrokenPipeError:
            return  # it was killed: the next check starts another

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
    """Listen until the pipe closes; without a goodbye, end what is left and start a worker.

    Parameters
    ----------
    pipe : int
        Number of the file to listen at.
    restart : callable
        Starts a worker.
    silent_seconds : float
        End what runs when the leases were not renewed for so long.
    """
    tokens: set[str] = set()
    renewed = time.monotonic()
    unread = b""
    while True:
        left = renewed + silent_seconds - time.monotonic() if tokens else math.inf
        if left <= 0:
            end_all(tokens)  # the worker sees them gone, when it sees again
            renewed = time.monotonic()
            continue
        if not select.select([pipe], [], [], None if left == math.inf else left)[0]:
            continue
        if not (chunk := os.read(pipe, 65536)):
            break
        *words, unread = (unread + chunk).split(b"\n")
        for word in map(bytes.decode, words):
            if word == ".":
                return
            if word == "~":
                renewed = time.monotonic()
            elif word.startswith("+"):
                renewed = renewed if tokens else time.monotonic()  # its claim is a lease of its own
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

    The arguments are the seconds of silence after which what runs is ended, and the command that starts
    another worker.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it leaves with its worker, not with its terminal
    began = time.monotonic()
    silent_seconds, command = float(sys.argv[1]), sys.argv[2:]
    keep(sys.stdin.fileno(), lambda: _restart(command, time.monotonic() - began), silent_seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
