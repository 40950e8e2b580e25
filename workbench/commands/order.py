"""Rename, archive, restore and delete: the same words for runs, experiments, jobs and indexes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from workbench.commands.arguments import command, completed_by, group, in_workspace, opened
from workbench.commands.exit_codes import DONE, FAILED
from workbench.commands.output import print_document, print_table, say, show
from workbench.errors import BadInput

if TYPE_CHECKING:
    from workbench.workspace import Workspace

#: What each noun can do: (rename, archive, restore, delete) of a key in a workspace.
_Call = Callable[["Workspace", str, str], object]

_ABOUT = {
    "archive": "Hide {many} from lists; nothing is deleted, and restore undoes it.",
    "restore": "Show archived {many} in lists again.",
    "delete": "Delete {many} for good, with all that belongs to them; archive can be undone.",
}

_RUNS: Mapping[str, _Call] = {
    "rename": lambda home, key, new: home.run(key).rename(new),  # type: ignore[arg-type]  # it checks the id
    "archive": lambda home, key, _: home.run(key).archive(),  # type: ignore[arg-type]
    "restore": lambda home, key, _: home.run(key).restore(),  # type: ignore[arg-type]
    "delete": lambda home, key, _: home.run(key).delete(),  # type: ignore[arg-type]
}

_JOBS: Mapping[str, _Call] = {
    "rename": lambda home, key, new: home.job(key).rename(new),  # type: ignore[arg-type]
    "archive": lambda home, key, _: home.job(key).archive(),  # type: ignore[arg-type]
    "restore": lambda home, key, _: home.job(key).restore(),  # type: ignore[arg-type]
    "delete": lambda home, key, _: home.job(key).delete(),  # type: ignore[arg-type]
}

_EXPERIMENTS: Mapping[str, _Call] = {
    "rename": lambda home, key, new: home.rename_experiment(key, new),
    "archive": lambda home, key, _: home.archive_experiment(key),
    "restore": lambda home, key, _: home.restore_experiment(key),
    "delete": lambda home, key, _: home.delete_experiment(key),
}

_INDEXES: Mapping[str, _Call] = {
    "rename": lambda home, key, new: home.rename_index(key, new),
    "archive": lambda home, key, _: home.archive_index(key),
    "restore": lambda home, key, _: home.restore_index(key),
    "delete": lambda home, key, _: home.delete_index(key),
}


def add(commands: Any) -> None:
    """Add ``experiments`` and ``indexes``; runs and jobs add theirs to their other commands."""
    experiments = group(commands, "experiments", "List, rename, archive, restore and delete experiments.")
    listed = command(
        experiments, "experiments list", in_workspace(_list_experiments), "List experiments by name."
    )
    _takes_archived(listed, "experiments")
    add_order(experiments, "experiment", _EXPERIMENTS, lambda home: home.experiments(archived=None))
    indexes = group(commands, "indexes", "List, rename, archive, restore and delete indexes.")
    listed = command(indexes, "indexes list", in_workspace(_list_indexes), "List indexes by name.")
    _takes_archived(listed, "indexes")
    add_order(
        indexes, "index", _INDEXES, lambda home: [*home.index_names(), *home.index_names(archived=True)]
    )


def add_runs(runs: Any) -> None:
    """Add the commands of runs."""
    add_order(runs, "run", _RUNS, lambda home: home.store.run_ids(), "the run's id")


def add_jobs(jobs: Any) -> None:
    """Add the commands of jobs."""
    keys = "the job's id"
    add_order(jobs, "job", _JOBS, lambda home: [job.id for job in home.jobs(limit=100, archived=None)], keys)


def add_order(
    commands: Any,
    noun: str,
    calls: Mapping[str, _Call],
    known: Callable[[Workspace], Iterable[object]],
    about: str = "",
) -> None:
    """Add ``rename``, ``archive``, ``restore`` and ``delete`` of one noun.

    Parameters
    ----------
    commands : object
        Where ``add_parser`` is.
    noun : str
        In the singular.
    calls : mapping
        What each does.
    known : callable
        What the shell completes keys by.
    about : str
        What a key is; default: the name.
    """
    many = "indexes" if noun == "index" else f"{noun}s"
    about = about or f"the {noun}'s name"

    def keys(args: argparse.Namespace) -> Iterable[object]:
        with opened(args) as home:
            return list(known(home))

    def rename(home: Workspace, args: argparse.Namespace) -> int:
        calls["rename"](home, args.key, args.name)
        if args.json:
            print_document({"renamed": args.key, "name": args.name})
        else:
            show(f"{noun} {args.key} is called {args.name} now")
        return DONE

    def changing(verb: str) -> Callable[[Workspace, argparse.Namespace], int]:
        done = {"archive": "archived", "restore": "restored"}[verb]

        def change(home: Workspace, args: argparse.Namespace) -> int:
            for key in args.key:
                calls[verb](home, key, "")
            if args.json:
                print_document({done: args.key})
            else:
                show(f"{done}: {', '.join(args.key)}")
                if verb == "archive":
                    say(f"Undo with: workbench {many} restore {' '.join(args.key)}")
            return DONE

        return change

    def delete(home: Workspace, args: argparse.Namespace) -> int:
        if not args.yes and not _confirmed(noun if len(args.key) == 1 else many, args.key):
            say("Nothing was deleted.")
            return FAILED
        total: dict[str, int] = {}
        for key in args.key:
            counts: Any = calls["delete"](home, key, "")
            for name, count in counts.items():
                total[name] = total.get(name, 0) + count
        if args.json:
            print_document({"deleted": total})
        else:
            show("deleted: " + ", ".join(f"{name} {count:,}" for name, count in total.items() if count))
        return DONE

    one = command(commands, f"{many} rename", in_workspace(rename), f"Give {_a(noun)} another name.")
    completed_by(one.add_argument("key", metavar=noun.upper(), help=about), keys)
    one.add_argument("name", metavar="NAME", help="the new name")
    for verb, says in _ABOUT.items():
        call = delete if verb == "delete" else changing(verb)
        some = command(commands, f"{many} {verb}", in_workspace(call), says.format(many=many))
        completed_by(some.add_argument("key", nargs="+", metavar=noun.upper(), help=about), keys)
        if verb == "delete":
            some.add_argument("--yes", action="store_true", help="do not ask")


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _confirmed(what: str, keys: list[str]) -> bool:
    """Ask whether to delete.

    Raises
    ------
    BadInput
        There is nobody to ask.
    """
    if not sys.stdin.isatty():
        raise BadInput("deleting cannot be undone", hint="Confirm it with --yes, or archive instead.")
    say(f"Delete {what} {', '.join(keys)} for good? It cannot be undone. [y/N] ")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _takes_archived(parser: argparse.ArgumentParser, many: str) -> None:
    parser.add_argument("--archived", action="store_true", help=f"only archived {many}")


def _list_experiments(home: Workspace, args: argparse.Namespace) -> int:
    names = home.experiments(archived=args.archived)
    rows = [(name, str(home.count_runs(name, archived=None))) for name in names]
    if args.json:
        print_document({"experiments": [{"name": name, "runs": int(count)} for name, count in rows]})
    else:
        print_table(("experiment", "runs"), rows, empty="No experiments.")
    return DONE


def _list_indexes(home: Workspace, args: argparse.Namespace) -> int:
    names = home.index_names(archived=args.archived)
    if args.json:
        print_document({"indexes": [{"name": name} for name in names]})
    else:
        print_table(("index",), [(name,) for name in names], empty="No indexes.")
    return DONE
