"""Find the file system of a path, and whether it is a network file system."""

from __future__ import annotations

import os
import re
from pathlib import Path

_TABLE = Path("/proc/self/mountinfo")


#: Network file systems: file locks and shared memory do not work between hosts.
NETWORK = frozenset(
    {
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "davfs",
        "fuse.ceph",
        "fuse.davfs",
        "fuse.davfs2",
        "fuse.glusterfs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.smbnetfs",
        "fuse.sshfs",
        "gfs",
        "gfs2",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "orangefs",
        "smb3",
        "smbfs",
    }
)


def network_filesystem(path: Path) -> str:
    """Return the type of the network file system that a path is on, such as ``"nfs4"``; empty if none.

    Detected on Linux only, from the kernel's list of mounts; elsewhere always empty.
    """
    try:
        table = _TABLE.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
    kind = _kind(table, os.path.realpath(path))
    return kind if kind in NETWORK else ""


def _kind(table: str, path: str) -> str:
    """Return the type of the deepest mount that contains a path; the last one counts."""
    kind, depth = "", -1
    for line in table.splitlines():
        mount, _, rest = line.partition(" - ")
        fields = mount.split(" ")
        if len(fields) < 5 or not rest:
            continue
        # Spaces and similar characters are octal escapes.
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        inside = point == "/" or path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= depth:
            kind, depth = rest.split(" ")[0], len(point)
    return kind
