"""A client of a server on plain HTTP does not load the certificates, and one on HTTPS checks them."""

from __future__ import annotations

import ssl

import httpx
import pytest

from workbench.remote.door import Door


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files of certificates that are loaded."""
    files: list[str] = []
    load = ssl.SSLContext.load_verify_locations

    def watched(self: ssl.SSLContext, cafile: str | None = None, *more: str) -> None:
        files.append(str(cafile))
        load(self, cafile, *more)

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", watched)
    return files


def test_plain_http_needs_no_certificates(loaded: list[str]) -> None:
    Door("http://127.0.0.1:9", "token", 5.0).close()
    assert loaded == []


def test_https_checks_them(loaded: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clients: list[httpx.Client] = []
    client = httpx.Client
    monkeypatch.setattr(httpx, "Client", lambda **more: clients.append(client(**more)) or clients[-1])
    Door("https://127.0.0.1:9", "token", 5.0).close()
    assert loaded != []
    context = clients[0]._transport._pool._ssl_context
    assert context.verify_mode is ssl.CERT_REQUIRED
