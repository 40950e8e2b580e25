"""Stand-ins for the ids of items on a published page, since an id may tell where a file is.

A stand-in is the id, encrypted with a key that only the publisher has, so that nothing has to be kept for it,
a link with one works after a restart, and one that was made up stands for nothing. The construction is that
of a synthetic initialization vector (RFC 5297), with BLAKE2b as the keyed digest and SHAKE-256 as the stream.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from workbench.errors import CorruptFile

#: Environment variable with the key of a published page, in hexadecimal digits.
PAGE_KEY = "WORKBENCH_PAGE_KEY"


#: The file with the key, beside the log of the page.
KEY_FILE = ".search-page.key"

_KEY_BYTES, _TAG_BYTES = 32, 12

#: What tells a stand-in from an id.
_MARK = "~"


def page_key(folder: Path) -> bytes:
    """Return the key of the pages of a workspace; it is made with the first one, for its owner alone."""
    path = folder / KEY_FILE
    with suppress(FileNotFoundError):
        return _checked(path)
    number, beside = tempfile.mkstemp(prefix=f"{KEY_FILE}.", dir=folder)  # which only its owner can read
    with os.fdopen(number, "wb") as file:
        file.write(secrets.token_bytes(_KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(beside, path)  # unlike a rename it never replaces the key that another page has just made
    except FileExistsError:
        pass
    except OSError:  # a disk without hard links
        Path(beside).replace(path)
    finally:
        Path(beside).unlink(missing_ok=True)
    return _checked(path)


def _checked(path: Path) -> bytes:
    key = path.read_bytes()
    if len(key) != _KEY_BYTES:
        raise CorruptFile(
            path, f"must have {_KEY_BYTES} bytes, not {len(key)}", hint="Delete it; a new key is made."
        )
    return key


class StandIns:
    """Makes stand-ins for ids, and takes them back.

    Parameters
    ----------
    key : bytes, optional
        Default: that in ``$WORKBENCH_PAGE_KEY``, or a new one.
    """

    def __init__(self, key: bytes = b"") -> None:
        self._key = key or bytes.fromhex(os.environ.get(PAGE_KEY, "")) or secrets.token_bytes(_KEY_BYTES)

    def stand_in_of(self, item: str) -> str:
        """Return the stand-in for an id: the same for the same id, of ASCII letters, digits, ``~ - _``."""
        data = item.encode("utf-8", "surrogatepass")
        tag = self._tag(data)
        return _MARK + base64.urlsafe_b64encode(tag + self._mixed(tag, data)).decode().rstrip("=")

    def item_of(self, stand_in: str) -> str:
        """Return the id that a stand-in stands for; a text that is none of this key is returned as it is."""
        if stand_in.startswith(_MARK):
            body = stand_in[len(_MARK) :]
            with suppress(binascii.Error, ValueError):
                sealed = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
                tag, data = sealed[:_TAG_BYTES], self._mixed(sealed[:_TAG_BYTES], sealed[_TAG_BYTES:])
                if hmac.compare_digest(tag, self._tag(data)):
                    return data.decode("utf-8", "surrogatepass")
        return stand_in

    def _tag(self, data: bytes) -> bytes:
        return hashlib.blake2b(data, key=self._key, digest_size=_TAG_BYTES).digest()

    def _mixed(self, tag: bytes, data: bytes) -> bytes:
        stream = hashlib.shake_256(self._key + tag).digest(len(data))
        return bytes(one ^ other for one, other in zip(data, stream, strict=True))
