"""The published page behind a real proxy: under a path, and with the host name that nginx passes on."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import installed, workspace_in
from tests.waiting import GUARD, until
from tests.workbench.conftest import make_index
from tests.workbench.publish.visitor import Visitor
from workbench.publish import page

CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_max_body_size 25m;
  server {{
    listen 127.0.0.1:{port};
    location /search/ {{ proxy_pass {url}; }}
    location /named/ {{ proxy_pass {url}; proxy_set_header Host $host; }}
    location /foreign/ {{ proxy_pass {url}; proxy_set_header Host evil.example.net; }}
  }}
}}
"""


@pytest.fixture(scope="module")
def proxied(toy_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of nginx in front of a page that is published as search.example.org."""
    # Debian's is not on the path of other users than root.
    nginx = shutil.which("nginx") or shutil.which(os.environ.get("WORKBENCH_TEST_NGINX", "/usr/sbin/nginx"))
    if nginx is None:
        message = "no nginx found; install it, for example with: apt-get install nginx-light"
        if os.environ.get("WORKBENCH_REQUIRE_NGINX") == "1":
            pytest.fail(message)
        pytest.skip(message)
    folder = tmp_path_factory.mktemp("proxied")
    home = folder / "results"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with installed(toy_package), workspace_in(home):
        make_index(home, "words")
        server, url = page.serve(home, "words", host_names=["search.example.org"])
        (folder / "nginx.conf").write_text(CONFIGURATION.format(folder=folder, port=port, url=url))
        command = [
            nginx,
            "-p",
            str(folder),
            "-e",
            str(folder / "error.log"),
            "-c",
            str(folder / "nginx.conf"),
        ]
        proxy = subprocess.Popen(command)
        address = f"http://127.0.0.1:{port}/"
        try:
            until(lambda: _answers(address), "nginx answers")
            yield address
        finally:
            for process in (proxy, server):
                process.terminate()
                process.wait(GUARD)


def _answers(address: str) -> bool:
    try:
        httpx.get(address, timeout=GUARD)
    except httpx.TransportError:
        return False
    return True


#: What a browser sends that has loaded the page from search.example.org.
BROWSER = {"Origin": "https://search.example.org", "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "empty"}


@pytest.mark.parametrize("path", ["search/", "named/"])
def test_the_page_works_below_a_path(proxied: str, path: str) -> None:
    with Visitor(proxied + path) as visitor:
        visitor.client.headers.update({**BROWSER, "Host": "search.example.org"})
        assert 'id="wb-search"' in visitor.client.get("").text
        assert visitor.finds_a_dog()
        assert visitor.search(bytes(3 * 2**20), by="image")["type"] == "answer"


def test_a_browser_need_not_know_the_name_that_a_proxy_passes_on(proxied: str) -> None:
    with Visitor(f"{proxied}search/") as visitor:
        visitor.client.headers.update({**BROWSER, "Origin": "https://another.example.org"})
        assert visitor.finds_a_dog()
        visitor.client.headers.update({"Sec-Fetch-Site": "cross-site"})
        assert visitor.ask(by="text", query="dog").status_code == 403


def test_a_name_that_the_page_is_not_published_under_is_refused(proxied: str) -> None:
    with Visitor(f"{proxied}foreign/") as visitor:
        assert visitor.page.status_code == 403
        assert visitor.ask(by="text", query="dog").status_code == 403
