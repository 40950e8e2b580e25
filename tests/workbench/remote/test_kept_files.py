"""A hostile server does not say where its client writes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import workbench as wb
from workbench.runs.kept_files import ArtifactFile

RUN = {
    "id": 1, "name": "r", "experiment": "e", "status": "succeeded", "config": {}, "tags": {},
    "directions": [],
    "job_id": None, "error": None, "created_at": None, "finished_at": None, "notes": "", "seed": None,
    "git": {}, "environment": {}, "origin": None,
}  # fmt: skip

#: Names that lead elsewhere, hide, or are none.
HOSTILE = [
    "../../escaped.txt", "/escaped.txt", "..", ".", "", ".bashrc", "a/b", "a\\b", "C:x", "a\0b", "~",
    "con", "x" * 300, "a\nb", "\u202egpj.exe", None, 7, ["a"], {"a": 1}, "\udce9",
]  # fmt: skip


class Server:
    """A server that sends one name for every file."""

    name: Any = "plain.txt"
    url = ""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    hostile = Server()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("/workbench/api/")[2].partition("?")[0]
            file = {
                "name": hostile.name,
                "size": 5,
                "step": 1,
                "metrics": {},
                "created_at": "2024-01-01T00:00:00+00:00",
            }
            replies = {
                "jobs": {"jobs": [], "more": False},
                "runs/1": RUN,
                "runs/1/artifacts": {"artifacts": [file]},
                "runs/1/checkpoints": {"checkpoints": [file]},
            }
            body = json.dumps(replies[path]).encode() if path in replies else b"owned"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        hostile.url = f"http://127.0.0.1:{http.server_port}"
        yield hostile
        http.shutdown()


@pytest.mark.parametrize("kind", ["artifacts", "checkpoints"])
@pytest.mark.parametrize("name", HOSTILE, ids=repr)
def test_a_name_that_leads_elsewhere_is_refused_before_anything_is_written(
    server: Server, tmp_path: Path, kind: str, name: Any
) -> None:
    here = tmp_path / "deep" / "here"
    here.mkdir(parents=True)
    server.name = name
    with wb.connect(server.url, "token") as ws:
        files = getattr(ws.run(1), kind)
        with pytest.raises(wb.BadName, match="the server names a file"):
            [file.save(here) for file in files()]
    assert list(tmp_path.rglob("*")) == [tmp_path / "deep", here]
    assert not Path("/escaped.txt").exists()


@pytest.mark.parametrize("kind", ["artifacts", "checkpoints"])
def test_a_plain_name_is_saved(server: Server, tmp_path: Path, kind: str) -> None:
    server.name = "모델 1.bin"
    with wb.connect(server.url, "token") as ws:
        run = ws.run(1)
        (file,) = getattr(run, kind)()
        assert file.save(tmp_path) == tmp_path / "모델 1.bin"
        assert (tmp_path / "모델 1.bin").read_bytes() == b"owned"
        assert run.created_at is None
        assert run.seconds is None


def test_saving_checks_a_name_whoever_made_it(tmp_path: Path) -> None:
    from datetime import UTC, datetime

    file = ArtifactFile("../x", tmp_path / "x", 1, datetime.now(UTC))
    with pytest.raises(wb.BadName):
        file.save(tmp_path)
