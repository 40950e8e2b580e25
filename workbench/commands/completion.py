"""``workbench completion``."""

from __future__ import annotations

import argparse
from typing import Any

from workbench.commands.arguments import command
from workbench.commands.exit_codes import DONE
from workbench.commands.output import print_document

SHELLS = ("bash", "zsh", "fish")


def add(commands: Any) -> None:
    """Add the command."""
    about = "Print what makes a shell complete workbench's words, names and ids."
    completion = command(commands, "completion", _completion, about)
    completion.add_argument(
        "shell",
        choices=SHELLS,
        help="in bash or zsh: eval \"$(workbench completion bash)\"; in fish: workbench completion fish | source",
    )


def _completion(given: argparse.Namespace) -> int:
    import argcomplete

    script = argcomplete.shellcode(["workbench"], shell=given.shell)  # type: ignore[no-untyped-call]
    if given.json:
        print_document({"shell": given.shell, "script": script})
    else:
        print(script)
    return DONE
