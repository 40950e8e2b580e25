"""What the tasks of these tests do; workers import it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import workbench as wb


def note(folder: str, what: str) -> None:
    """Leave a line that other processes can count."""
    with Path(folder, "log.txt").open("a") as log:
        log.write(what + "\n")


def noted(folder: Path) -> list[str]:
    log = folder / "log.txt"
    return log.read_text().splitlines() if log.exists() else []


def square(given: dict[str, Any], path: Path) -> None:
    """Write the square of a number, after ``seconds``."""
    note(given["folder"], f"began {given['number']} {os.getpid()}")
    time.sleep(given.get("seconds", 0))
    path.write_bytes(str(given["number"] ** 2).encode())
    note(given["folder"], f"made {given['number']}")


def die_once(given: dict[str, Any], path: Path) -> None:
    """Kill the own process the first time."""
    mark = Path(given["folder"], f"died-{given['number']}")
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    square(given, path)


def die(given: dict[str, Any], path: Path) -> None:
    note(given["folder"], "died")
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(given: dict[str, Any], path: Path) -> None:
    raise wb.BadInput(f"{given['number']} is no number to square", hint="Try another.")


def slip(given: dict[str, Any], path: Path) -> None:
    note(given["folder"], "slipped")
    raise ZeroDivisionError("a slip")


def break_once(given: dict[str, Any], path: Path) -> None:
    """Fail as a disk does, the first time."""
    mark = Path(given["folder"], f"broke-{given['number']}")
    if not mark.exists():
        mark.touch()
        raise OSError(5, "Input/output error")
    square(given, path)


def write_nothing(given: dict[str, Any], path: Path) -> None:
    return


def sleep_long(given: dict[str, Any], path: Path) -> None:
    note(given["folder"], f"began {os.getpid()}")
    time.sleep(600)


def complain_and_exit(given: dict[str, Any], path: Path) -> None:
    print("out of luck", flush=True)
    os._exit(7)


def fill_the_disk(given: dict[str, Any], path: Path) -> None:
    raise OSError(28, "No space left on device")
