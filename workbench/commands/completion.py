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
        help='in bash: eval "$(workbench completion bash)"; in zsh: the same with zsh; '
        "in fish: workbench completion fish | source",
    )


def _completion(given: argparse.Namespace) -> int:
    from argcomplete.shell_integration import shellcode

    script = shellcode(["workbench"], shell=given.shell)
    if given.json:
        print_document({"shell": given.shell, "script": script})
    else:
        print(script)
    return DONE
