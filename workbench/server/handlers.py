"""From the table of routes to tornado handlers.

Every verb is ``@web.authenticated`` and then ``@authorized``. What comes in is bounded before it is read and
checked before it is used; whatever goes wrong is answered as ``{"error": {"type", "message", "hint",
"details"}}``.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from http.client import responses
from typing import Any, ClassVar

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import ensure_async
from tornado import web
from tornado.iostream import StreamClosedError

from workbench import wire
from workbench.adapter.options import fit
from workbench.errors import BadInput, Busy, SearchFailed, StoreError, TooLarge, WorkbenchError
from workbench.server.api.kept_files import FileToSend
from workbench.server.api.route import BODY_BYTES, Call, Route
from workbench.server.checks import SERVER_ARGUMENTS, check_text, check_texts, json_object, refuse_constant
from workbench.server.desk import WorkbenchServer
from workbench.server.uploads import PART_BYTES, Upload

#: A running job's seconds grow by themselves, which is no change of the job.
_SECONDS = re.compile(rb'"seconds":[-+.\deE]+')


#: A file's bytes are nothing that a browser should show.
FILE_TYPE = "application/octet-stream"


_WORDS = {
    403: ("AccessDenied", "Log in, or send the server's token: Authorization: token …"),
    404: ("NotFound", "The routes stand in workbench/api/openapi.json."),
    405: ("NotSupported", "The routes stand in workbench/api/openapi.json."),
}


@web.stream_request_body
class WorkbenchHandler(APIHandler):
    """What all handlers of the API share: bounded bodies, strict input, errors as JSON."""

    auth_resource = "workbench"
    _track_activity = False

    #: What is done here, by verb.
    routes: ClassVar[Mapping[str, Route]] = {}

    def initialize(self, desk: WorkbenchServer, **more: Any) -> None:
        """Take what the rules give."""
        self.desk = desk
        self.more = more
        self._parts: list[bytes] = []
        self._received = 0
        self.upload: Upload | None = None
        self._gone = False  # who asked
        self._patience: asyncio.TimerHandle | None = None

    @property
    def route(self) -> Route | None:
        """What is asked for; None where it is no route of the table."""
        return self.routes.get(self.request.method or "")

    def body_bytes(self) -> int:
        """Return how much may be sent."""
        if self.route is None:
            return BODY_BYTES
        return self.desk.most_file_bytes if self.route.before is not None else self.route.body_bytes

    async def prepare(self) -> None:  # type: ignore[override]
        """Log in, and refuse a body that is too large before it is read."""
        await super().prepare()
        if self._finished:
            return
        length = int(self.request.headers.get("Content-Length") or 0)
        takes_file = self.route is not None and self.route.before is not None
        if takes_file:  # the server's own limit is one of what it holds in memory
            self.request.connection.set_max_body_size(max(length, self.body_bytes()))  # type: ignore[union-attr]
        if length > self.body_bytes():
            self.refuse(self._too_large())
        elif takes_file:
            await self._begin_upload()

    async def _begin_upload(self) -> None:
        """Make a place for a file, if it is one that is wanted from who sends it."""
        route = self.route
        if route is None or route.before is None:
            return
        user = self.current_user
        if not user or not await ensure_async(
            self.authorizer.is_authorized(self, user, route.action, "workbench")
        ):
            return  # which is said, as everywhere, when it is time to answer; nothing is kept until then
        try:
            call = _call(self, route, dict(self.path_kwargs))
            await route.before(self.desk, call)
            if self.desk.files >= self.desk.most_files:
                raise Busy(f"{self.desk.most_files} files are on their way already", retry_after=5)
            self.desk.files += 1
            try:
                self.upload = await self.desk.run(lambda home: Upload(home.runs_dir / ".sent"))
            finally:
                if self.upload is None:
                    self.desk.files -= 1
                elif self._gone:
                    self._end_upload()
                else:
                    self._wait_for_more()
        except (WorkbenchError, OSError) as error:
            self.refuse(_as_said(self, error))

    def _wait_for_more(self) -> None:
        """Cut off who sends nothing more, as a machine that has lost its network: places are few."""
        if self._patience is not None:
            self._patience.cancel()
        stream = self.request.connection.stream  # type: ignore[union-attr]
        loop = asyncio.get_running_loop()
        self._patience = loop.call_later(self.desk.stalled_seconds, stream.close)

    async def _keep_part(self) -> None:
        """Write what has come of a file, by a thread."""
        upload, data = self.upload, b"".join(self._parts)
        self._parts.clear()
        if upload is not None and data:
            await self.desk.on_disk(lambda: upload.write(data))

    def _end_upload(self) -> None:
        """Remove what is left of a file on its way, whether it has arrived or was cut off."""
        if self._patience is not None:
            self._patience.cancel()
        upload, self.upload = self.upload, None
        if upload is not None:
            self.desk.files -= 1
            asyncio.get_running_loop().run_in_executor(None, upload.discard)

    def on_finish(self) -> None:
        """Leave nothing behind."""
        super().on_finish()
        self._end_upload()

    def on_connection_close(self) -> None:
        """Leave nothing behind where the one who sends is gone."""
        super().on_connection_close()
        self._gone = True
        self._end_upload()

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """Keep what is sent, up to the limit: in memory, or a file's bytes on the disk."""
        self._received += len(chunk)
        if self.route is not None and self.route.before is not None:
            if self.upload is None or self._received > self.body_bytes():
                self._parts.clear()
                return None
            self._wait_for_more()
            self._parts.append(chunk)
            return self._keep_part() if sum(map(len, self._parts)) >= PART_BYTES else None
        if self._received <= self.body_bytes():
            self._parts.append(chunk)
        else:
            self._parts.clear()
        return None

    @property
    def received_bytes(self) -> int:
        """How much was sent."""
        return self._received

    async def received(self) -> Upload:
        """Return the file that was sent, all of it on the disk.

        Raises
        ------
        TooLarge
            There is more of it than may be.
        """
        if self._received > self.body_bytes() or self.upload is None:
            raise self._too_large()
        if self._patience is not None:
            self._patience.cancel()
        await self._keep_part()
        return self.upload

    def _too_large(self) -> TooLarge:
        most = f"{self.body_bytes():,}"
        return TooLarge(f"the request's body is too large: at most {most} bytes are taken here")

    def sent(self) -> Any:
        """Return the body, read as JSON.

        Raises
        ------
        TooLarge
            There is more of it than may be.
        BadInput
            It is no JSON, or JSON that cannot be kept.
        """
        if self._received > self.body_bytes():
            raise self._too_large()
        data = b"".join(self._parts)
        try:
            found = json.loads(data.decode("utf-8"), parse_constant=refuse_constant)
            if b"\\u" in data:  # half a character, which nothing can write down again, or none at all
                check_texts(found)
        except (ValueError, RecursionError) as error:
            said = "it nests too deeply" if isinstance(error, RecursionError) else str(error)
            raise BadInput(f"the request's body is no JSON: {said}", hint="Send a JSON object.") from None
        return found

    def asked(self) -> dict[str, str]:
        """Return what stands behind the question mark, without what is the server's own."""
        try:
            return {
                name: values[-1].decode("utf-8")
                for name, values in self.request.query_arguments.items()
                if name not in SERVER_ARGUMENTS
            }
        except UnicodeDecodeError:
            raise BadInput("the query is not UTF-8") from None

    def compute_etag(self) -> str | None:
        """Return a mark of what is answered; how long a job runs by now is no part of it."""
        whole = b"".join(self._write_buffer)
        return f'W/"{hashlib.sha256(_SECONDS.sub(b"", whole)).hexdigest()[:32]}"'

    # Errors ------------------------------------------------------------------------------------

    def refuse(self, error: WorkbenchError) -> None:
        """Answer with an error."""
        self.clear()
        self.set_status(wire.status_of(error))
        if self.get_status() == 503:
            after = error.retry_after if isinstance(error, Busy) else 1.0
            self.set_header("Retry-After", str(max(round(after), 1)))
        if isinstance(error, (StoreError, SearchFailed)):
            self.log.warning("workbench: %s %s: %s", self.request.method, self.request.path, error)
        self.finish(wire.dumps({"error": wire.error_json(error)}))

    def write_error(self, status_code: int, **more: Any) -> None:
        """Answer what went wrong outside of a route's own work, in the same form."""
        raised = more.get("exc_info", (None, None, None))[1]
        kind, hint = _WORDS.get(status_code, ("InternalError" if status_code >= 500 else "BadInput", ""))
        said = responses.get(status_code, "Unknown error")
        if isinstance(raised, web.HTTPError) and raised.log_message and status_code < 500:
            said = raised.log_message % raised.args if raised.args else raised.log_message
        if status_code == 405:
            self.set_header("Allow", ", ".join(self.verbs()))
        told = {"type": kind, "message": said, "hint": hint, "details": {}}
        self.finish(wire.dumps({"error": told}))

    def verbs(self) -> list[str]:
        """Return what may be done here."""
        verbs = ("GET", "POST", "PUT", "PATCH", "DELETE")
        return [verb for verb in verbs if verb.lower() in type(self).__dict__]


def guarded(action: str) -> Callable[[Any], Any]:
    """Return a decorator: logged in, and allowed to do ``action``."""

    def guard(method: Any) -> Any:
        return web.authenticated(authorized(action=action, resource="workbench")(method))

    return guard


async def answer_of(handler: WorkbenchHandler, route: Route, path: dict[str, str]) -> None:
    """Answer a request by its route; what goes wrong is answered as an error."""
    try:
        call = _call(handler, route, path)
        if route.body is not None:
            call = Call(call.path, call.query, await _body(handler, route))
        elif route.before is not None:
            call = Call(call.path, call.query, await handler.received())
        told = await route.call(handler.desk, call)
    except (WorkbenchError, OSError) as error:
        handler.refuse(_as_said(handler, error))
        return
    handler.set_status(route.status)
    if route.gives_file:
        await _send(handler, told)
        return
    handler.finish(told if isinstance(told, bytes) else wire.dumps(told))


def _call(handler: WorkbenchHandler, route: Route, path: dict[str, str]) -> Call:
    """Return a request as it is checked: its place, and what stands behind the question mark."""
    for value in path.values():
        check_text(value)
    given = handler.asked()
    for value in given.values():
        check_text(value)
    if route.query is None and given:
        raise BadInput(f"{route.path} takes no parameters, not {', '.join(sorted(given))}")
    query = None if route.query is None else fit(route.query, given, "the query")
    return Call(path, query)


def _as_said(handler: WorkbenchHandler, error: WorkbenchError | OSError) -> WorkbenchError:
    """Return an error that may be told: of a full disk, say, not where on the server it is."""
    if isinstance(error, WorkbenchError):
        return error
    handler.log.error("workbench: %s", handler.request.path, exc_info=error)
    return StoreError(f"the server's disk refused: {error.strerror or type(error).__name__}")


async def _send(handler: WorkbenchHandler, told: FileToSend) -> None:
    """Answer with a file's bytes, a part at a time."""
    handler.set_header("Content-Length", str(told.size))
    handler.set_header("Cache-Control", "no-cache")
    handler.set_header("Content-Disposition", "attachment")
    handler.set_header("X-Content-Type-Options", "nosniff")
    handler.set_header("Content-Type", FILE_TYPE)
    left = told.size
    try:
        while left:
            part = await handler.desk.on_disk(partial(told.file.read, min(PART_BYTES, left)))
            if not part:
                raise web.HTTPError(500, "the file became shorter while it was sent")
            left -= len(part)
            handler.write(part)
            await handler.flush()
        handler.finish(set_content_type=FILE_TYPE)
    except (StreamClosedError, asyncio.CancelledError):
        return
    finally:
        told.file.close()


async def _body(handler: WorkbenchHandler, route: Route) -> Any:
    """Return what was sent, checked; a large body is read by a thread."""
    if handler.received_bytes <= BODY_BYTES:
        return json_object(handler.sent(), route)
    return await handler.desk.on_disk(lambda: json_object(handler.sent(), route))
