"""The search page of a workspace, for notebooks and for Voila."""

from __future__ import annotations

import base64
import json
import os
import re
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError
from workbench.panels.base.assets import assets, page_script
from workbench.panels.search.panel import SCRIPTS, STYLES, SearchPanel, set_up
from workbench.search.answering import shown
from workbench.search.client import SearchClient
from workbench.search.indexes import index_adapter, newest_index
from workbench.search.searcher import PUBLISHED, Searcher

if TYPE_CHECKING:
    from IPython.display import HTML

    from workbench.base_workspace import BaseWorkspace


def search_page(
    workspace: BaseWorkspace | str | os.PathLike[str], index: str | None = None, *, service: bool = False
) -> SearchPanel | HTML:
    """Return the search panel of an index, or a page that says what to do if there is no index.

    On a published page it is the panel for visitors, which has no kernel.

    Parameters
    ----------
    workspace : BaseWorkspace or path
        Where the indexes are. With a path, only the workspace's search service is used and nothing else of
        the workspace is opened, so a kernel that only shows this page stays light.
    index : str, optional
        Name of the index; default: ``$WORKBENCH_INDEX``, else the newest.
    service : bool
        Whether the search service, not this process, holds the index even if a Workspace is passed.
    """
    try:
        name = index or os.environ.get("WORKBENCH_INDEX") or _newest(workspace)
        if name is not None:
            searcher = _opened(workspace, name, service=service)
            return visitors_page(searcher) if os.environ.get(PUBLISHED) else SearchPanel(searcher)
    except WorkbenchError as error:
        return _message(
            "This collection cannot be searched"
            if os.environ.get(PUBLISHED)
            else "This index cannot be opened",
            *shown(error),
        )
    if os.environ.get(PUBLISHED):
        return _message("Nothing to search yet", "This page has no pictures yet.", "Please come back later.")
    problem = "This workspace has no index."
    hint = "Run `workbench demo`, or build an index in the jobs panel."
    return _message("Nothing to search yet", problem, hint)


def visitors_page(searcher: Searcher) -> HTML:
    """Return the panel of an index for visitors, who have no kernel: it asks the server that served it.

    The server answers at ``page/search``, relative to the page; see ``visitors.js``.
    """
    from IPython.display import HTML

    setup, _ = set_up(searcher)
    about = json.dumps(_plain(setup), ensure_ascii=False).replace("<", "\\u003c")
    return HTML(  # type: ignore[no-untyped-call]
        f'<style>{assets(*STYLES)}</style>\n<div id="wb-search"></div>\n'
        f'<script type="application/json" id="wb-setup">{about}</script>\n'
        f'<script type="module">{page_script(*SCRIPTS, "search/visitors.js")}</script>'
    )


def _plain(value: Any) -> Any:
    """Return a panel's setup as JSON can hold it, with pictures as base64."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value


def _opened(workspace: BaseWorkspace | str | os.PathLike[str], name: str, *, service: bool) -> Searcher:
    if not isinstance(workspace, (str, os.PathLike)):
        return workspace.open_search(name, service=service)
    home = Path(workspace).expanduser().resolve()
    index_adapter(home / "indexes", name)  # raises before anything is started
    return SearchClient(home).open_search(name)


def _newest(workspace: BaseWorkspace | str | os.PathLike[str]) -> str | None:
    """Return the newest index; for a workspace on a server, the last one by name."""
    if isinstance(workspace, (str, os.PathLike)):
        return newest_index(Path(workspace).expanduser() / "indexes")
    return workspace.newest_index()


def _message(title: str, problem: str, hint: str) -> HTML:
    from IPython.display import HTML

    advice = re.sub("`([^`]+)`", r"<code>\1</code>", escape(hint))
    body = f"<b>{escape(title)}</b>{escape(problem)}<br>{advice}"
    return HTML(  # type: ignore[no-untyped-call]
        f'<style>{assets("base/theme.css")}</style><div class="wb"><div class="wb-empty">{body}</div></div>'
    )
