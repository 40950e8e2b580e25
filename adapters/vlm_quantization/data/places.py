"""Where the pictures of a listing are: files name them, and archives unpack them in a few usual places."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import workbench as wb

#: Number of names that are looked for in each likely place.
_TRIED = 20


#: What the loaders that look for pictures say of their option.
IMAGES_OPTION = {"images": "folder of the pictures (default: looked for beside the file and one folder up)"}


def picture_place(path: Path, given: str, names: Sequence[str], folders: Sequence[str]) -> tuple[Path, str]:
    """Return where a listing's pictures are.

    Parameters
    ----------
    path : Path
        The listing.
    given : str
        The folder that the user named, absolute or relative to the listing's; empty to look for it.
    names : sequence of str
        Names of pictures as they are listed.
    folders : sequence of str
        Names of folders that may hold them, beside the listing, in ``images`` there, or one folder up.

    Returns
    -------
    root, inside : Path, str
        The folder that the pictures must stay in, and what goes before their names there. Of the likely
        places it is the first that holds one of the names; if none does, the listing's folder.

    Raises
    ------
    BadInput
        The folder that the user named does not exist.
    """
    if given:
        root = path.parent / Path(given).expanduser()
        if not root.is_dir():
            raise wb.BadInput(f"images={given}: no such folder")
        return root, ""
    tried = [name for name in names[:_TRIED] if name and not Path(name).is_absolute() and ".." not in name]
    likely = ["", "images/", *(f"{prefix}{name}/" for name in folders if name for prefix in ("", "images/"))]
    for base in (path.parent, path.parent.parent):
        for inside in likely:
            if any((base / f"{inside}{name}").is_file() for name in tried):
                return base, inside
    return path.parent, ""
