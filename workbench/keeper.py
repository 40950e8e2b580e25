"""What stays when a worker is killed: it ends what ran there, and starts a worker that settles the rest.

A process that is killed cannot clean up after itself. The runner and the kernel die with the worker because
the system kills them; what the kernel had started does not. So a worker has a keeper beside it, a small
process in a session of its own, which hears of every attempt through a pipe. When the pipe closes without a
goodbye the worker is dead: the keeper kills every process that carries one of the attempts' tokens and starts
a worker in the background, which sets the states right.

The pipe carries one word a line: ``+token`` an attempt begins, ``-token`` nothing of it is left, ``.``
goodbye.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import IO

from workbench import processes

#: A worker that dies younger than this, in seconds, so many times in a row is not started again.
YOUNG_SECONDS, YOUNG_DEATHS = 30.0, 5

#: Environment variable that counts those deaths.
DEATHS = "WORKBENCH_WORKER_DEATHS"


class Keeper:
    """A worker's side of its keeper.

    Parameters
    ----------
    restart : sequence of str
        Command that starts a worker in the background.
    """

    def __init__(self, restart: Sequence[str]) -> None:
        self._restart = list(restart)
        self._process: subprocess.Popen[str] | None = None
        self._tokens: set[str] = set()

    def begin(self, token: str) -> None:
        """Say that an attempt begins, before anything of it does."""
        self._tokens.add(token)
        self._say(f"+{token}")

    def end(self, token: str) -> None:
        """Say that nothing of an attempt is left."""
        self._tokens.discard(token)
        self._say(f"-{token}")

    def goodbye(self) -> None:
        """Let the keeper go: the worker leaves in order."""
        if self._process is not None:
            self._say(".")
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._process.wait()
            self._process = None

    def check(self) -> None:
        """Start the keeper where there is none, or where it was killed."""
        if self._process is not None and self._process.poll() is None:
            return
        self._process = subprocess.Popen(  # noqa: S603  # this interpreter and our own module
            [sys.executable, "-m", "workbench.keeper", *self._restart],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            bufsize=1,
            start_new_session=True,
        )
        for token in self._tokens:
            self._say(f"+{token}")

    def _say(self, word: str) -> None:
        if self._process is None or self._process.stdin is None:
            return
        try:
            self._process.stdin.write(f"{word}\n")
        except (BrokenPipeError, ValueError):
            return  # it was killed: the next check starts another


def keep(pipe: IO[str], restart: Callable[[], object]) -> None:
    """Listen until the pipe closes; without a goodbye, end what is left and start a worker."""
    tokens: set[str] = set()
    for line in pipe:
        word = line.rstrip("\n")
        if word == ".":
            return
        if word.startswith("+"):
            tokens.add(word[1:])
        elif word.startswith("-"):
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
    """Keep the worker at the other end of standard input; the arguments are the command to start another."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it leaves with its worker, not with its terminal
    began = time.monotonic()
    keep(sys.stdin, lambda: _restart(sys.argv[1:], time.monotonic() - began))
    return 0


if __name__ == "__main__":
    sys.exit(main())
