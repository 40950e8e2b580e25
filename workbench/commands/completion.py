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
    about = "Print the shell completion script."
    completion = command(commands, "completion", _completion, about)
    completion.add_argument(
        "shell",
        choices=SHELLS,
        help='bash: eval "$(workbench completion bash)"; zsh: eval "$(workbench completion zsh)"; '
        "fish: workbench completion fish | source",
    )


def _completion(args: argparse.Namespace) -> int:
    from argcomplete.shell_integration import shellcode

    script = shellcode(["workbench"], shell=args.shell)
    if args.json:
        print_document({"shell": args.shell, "script": script})
    else:
        print(script)
    return DONE
