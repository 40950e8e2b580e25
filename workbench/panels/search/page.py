"""The search page of a workspace, as a notebook or Voila shows it."""

from __future__ import annotations

import os
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import NotSupported, WorkbenchError
from workbench.panels.base.assets import assets
from workbench.panels.search.panel import SearchPanel, shown
from workbench.search.client import SearchClient
from workbench.search.indexes import index_adapter, newest_index
from workbench.search.searcher import Searcher

if TYPE_CHECKING:
    from IPython.display import HTML

    from workbench.workspace import Workspace


def search_page(
    workspace: Workspace | str | os.PathLike[str], index: str | None = None, *, service: bool = False
) -> SearchPanel | HTML:
    """Return the search panel of an index, or a page that says what to do where there is none.

    Parameters
    ----------
    workspace : Workspace or path
        Where the indexes are. Of a path the workspace's search service is asked, and nothing else of the
        workspace is opened: a kernel that only shows this page stays light.
    index : str, optional
        Which one; ``$WORKBENCH_INDEX``, else the newest, if not given.
    service : bool
        Whether the search service holds the index for a workspace too, instead of this process.
    """
    try:
        name = index or os.environ.get("WORKBENCH_INDEX") or _newest(workspace)
        if name is not None:
            return SearchPanel(_opened(workspace, name, service=service))
    except WorkbenchError as error:
        return _message("This index cannot be opened", *shown(error))
    said = "A search page needs an index, and this workspace has none."
    return _message(
        "Nothing to search yet", said, "Run `workbench demo`, or build an index in the jobs panel."
    )


def _opened(workspace: Workspace | str | os.PathLike[str], name: str, *, service: bool) -> Searcher:
    if not isinstance(workspace, (str, os.PathLike)):
        return workspace.open_search(name, service=service)
    home = Path(workspace).expanduser().resolve()
    index_adapter(home / "indexes", name)  # what cannot be opened is said without starting anything
    return SearchClient(home).open_search(name)


def _newest(workspace: Workspace | str | os.PathLike[str]) -> str | None:
    """Return the index that was built last; of a workspace on a server, the last by name."""
    if isinstance(workspace, (str, os.PathLike)):
        return newest_index(Path(workspace).expanduser() / "indexes")
    try:
        return newest_index(workspace.indexes)
    except NotSupported:
        return next(reversed(workspace.index_names()), None)


def _message(title: str, said: str, hint: str) -> HTML:
    from IPython.display import HTML

    body = f"<b>{escape(title)}</b>{escape(said)}<br>{escape(hint)}"
    return HTML(  # type: ignore[no-untyped-call]
        f'<style>{assets("base/theme.css")}</style><div class="wb"><div class="wb-empty">{body}</div></div>'
    )
