"""A job's changes as a stream of server-sent events."""

from __future__ import annotations

import asyncio
from typing import Any

from tornado.iostream import StreamClosedError

from workbench import wire
from workbench.errors import Busy, WorkbenchError
from workbench.server.checks import check_text
from workbench.server.handlers import WorkbenchHandler, guarded
from workbench.store.records import FINAL_STATUSES

#: Seconds between two reads of a streamed job, and without an event until a keep-alive comment is sent.
LOOK_SECONDS, SILENCE_SECONDS = 0.25, 10.0


class EventsHandler(WorkbenchHandler):
    """A job's progress as server-sent events, until the job ends or the client disconnects."""

    @guarded("read")
    async def get(self, job_id: str) -> None:
        """Stream ``progress`` events, then ``end``."""
        if self.desk.streams >= self.desk.most_streams:
            self.refuse(
                Busy(f"too many open progress streams: at most {self.desk.most_streams}", retry_after=5)
            )
            return
        self.desk.streams += 1
        try:
            await self._stream(job_id)
        except WorkbenchError as error:
            if not self._headers_written:
                self.refuse(error)
                return
            self.write(_event("error", {"error": wire.error_json(error)}))
            self.finish(set_content_type="text/event-stream")
        except StreamClosedError:
            return
        finally:
            self.desk.streams -= 1

    async def _stream(self, job_id: str) -> None:
        check_text(job_id)
        number = await self.desk.run(lambda home: home.job(job_id).id)  # type: ignore[arg-type]
        last_sent_state: Any = None
        last_sent = asyncio.get_running_loop().time()
        while True:
            job = await self.desk.look(number)
            if not self._headers_written:
                self.set_header("Content-Type", "text/event-stream")
                self.set_header("Cache-Control", "no-cache")
                self.set_header("X-Accel-Buffering", "no")
                self.write(b"retry: 2000\n\n")
            now = {name: job[name] for name in ("id", "status", "progress", "attempt")}
            if now != last_sent_state:
                last_sent_state = now
                self.write(_event("progress", now))
            elif asyncio.get_running_loop().time() - last_sent > SILENCE_SECONDS:
                self.write(b": still here\n\n")
            else:
                await asyncio.sleep(LOOK_SECONDS)
                if self.request.connection.stream.closed():  # type: ignore[union-attr]
                    return
                continue
            last_sent = asyncio.get_running_loop().time()
            if job["status"] in FINAL_STATUSES:
                self.write(_event("end", job))
                self.finish(set_content_type="text/event-stream")
                return
            await self.flush()
            await asyncio.sleep(LOOK_SECONDS)


def _event(name: str, data: Any) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + wire.dumps(data) + b"\n\n"
