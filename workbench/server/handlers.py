"""Tornado handlers for the table of routes.

Every verb is ``@web.authenticated`` and then ``@authorized``. The size of a request is limited before it is
read, and its content is checked before it is used; every error is answered as ``{"error": {"type", "message",
"hint", "advice", "details"}}``.
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
from urllib.parse import quote

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
from workbench.text import shown

#: The elapsed seconds of a running job, which do not count as a change of the job.
_SECONDS = re.compile(rb'"seconds":[-+.\deE]+')


#: Maximum number of digits of a Content-Length.
_LENGTH_DIGITS = 18


_WORDS = {
    403: ("AccessDenied", "Log in, or send the server's token: Authorization: token …"),
    404: ("NotFound", "See workbench/api/openapi.json for the routes."),
    405: ("NotSupported", "See workbench/api/openapi.json for the routes."),
}


@web.stream_request_body
class WorkbenchHandler(APIHandler):
    """Base of all API handlers: limited bodies, strict input, errors as JSON."""

    auth_resource = "workbench"
    _track_activity = False

    #: The routes of this path, by verb.
    routes: ClassVar[Mapping[str, Route]] = {}

    def initialize(self, desk: WorkbenchServer, **more: Any) -> None:
        """Store the arguments of the URL rule."""
        self.desk = desk
        self.more = more
        self._parts: list[bytes] = []
        self._received = 0
        self.upload: Upload | None = None
        self._gone = False  # whether the client has disconnected
        self._preparing = True  # whether the body has yet to be read
        self._patience: asyncio.TimerHandle | None = None

    @property
    def route(self) -> Route | None:
        """The requested route; None if it is not in the table."""
        return self.routes.get(self.request.method or "")

    def body_bytes(self) -> int:
        """Return the maximum size of the body."""
        if self.route is None:
            return BODY_BYTES
        return self.desk.most_file_bytes if self.route.before is not None else self.route.body_bytes

    async def prepare(self) -> None:  # type: ignore[override]
        """Check the login, the permission and the length of the body, before any of the body is read.

        What is refused here is answered, and its connection closed: nobody without a login makes the server
        hold or write what they send.
        """
        await super().prepare()
        if self._finished:
            return
        if not self.current_user:
            raise web.HTTPError(403)
        if not await self._is_permitted():
            raise web.HTTPError(403, log_message=f"User is not authorized to {self.action} here.")
        try:
            length = content_length(self.request.headers.get("Content-Length"))
        except BadInput as error:
            self.refuse(error)
            return
        takes_file = self.route is not None and self.route.before is not None
        if takes_file:  # the server's own limit is for bodies held in memory
            self.request.connection.set_max_body_size(max(length, self.body_bytes()))  # type: ignore[union-attr]
        if length > self.body_bytes():
            self.refuse(self._too_large())
        elif takes_file:
            await self._begin_upload()
        self._preparing = False

    @property
    def action(self) -> str:
        """What the user needs permission for."""
        return "read" if self.route is None else self.route.action

    async def _is_permitted(self) -> bool:
        allowed = self.authorizer.is_authorized(self, self.current_user, self.action, "workbench")
        return bool(await ensure_async(allowed))

    async def _begin_upload(self) -> None:
        """Open an upload, if this file can be taken."""
        route = self.route
        if route is None or route.before is None:
            return
        try:
            call = _call(self, route, dict(self.path_kwargs))
            await route.before(self.desk, call)
            if self.desk.files >= self.desk.most_files:
                raise Busy(f"too many concurrent uploads: at most {self.desk.most_files}", retry_after=5)
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
            self.refuse(_safe_error(self, error))

    def _wait_for_more(self) -> None:
        """Abort the upload if the client stalls, for example without network: uploads are limited."""
        if self._patience is not None:
            self._patience.cancel()
        stream = self.request.connection.stream  # type: ignore[union-attr]
        loop = asyncio.get_running_loop()
        self._patience = loop.call_later(self.desk.stalled_seconds, stream.close)

    async def _keep_part(self) -> None:
        """Write the received part of a file, in a thread."""
        upload, data = self.upload, b"".join(self._parts)
        self._parts.clear()
        if upload is not None and data:
            await self.desk.on_disk(lambda: upload.write(data))

    def _end_upload(self) -> None:
        """Remove the temporary file of an upload, whether complete or aborted."""
        if self._patience is not None:
            self._patience.cancel()
        upload, self.upload = self.upload, None
        if upload is not None:
            self.desk.files -= 1
            asyncio.get_running_loop().run_in_executor(None, upload.discard)

    def finish(self, *args: Any, **kwargs: Any) -> Any:
        """Send the answer; before the body has been read, the answer says that the connection ends with it.

        The server closes such a connection. A client that is not told sends its next request there and sees
        it reset.
        """
        if self._preparing:
            self.set_header("Connection", "close")
        return super().finish(*args, **kwargs)

    def on_finish(self) -> None:
        """Clean up the upload."""
        super().on_finish()
        self._end_upload()

    def on_connection_close(self) -> None:
        """Clean up the upload when the client disconnects."""
        super().on_connection_close()
        self._gone = True
        self._end_upload()

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """Keep the body, up to the limit: in memory, or on disk for a file."""
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
        """Number of bytes received."""
        return self._received

    async def received(self) -> Upload:
        """Return the uploaded file, complete on disk.

        Raises
        ------
        TooLarge
            The body exceeds its limit.
        """
        if self._received > self.body_bytes() or self.upload is None:
            raise self._too_large()
        if self._patience is not None:
            self._patience.cancel()
        await self._keep_part()
        return self.upload

    def _too_large(self) -> TooLarge:
        most = f"{self.body_bytes():,}"
        return TooLarge(f"the request body is too large: at most {most} bytes")

    def sent(self) -> Any:
        """Return the body, parsed as JSON.

        Raises
        ------
        TooLarge
            The body exceeds its limit.
        BadInput
            It is not valid JSON, or contains text that cannot be stored.
        """
        if self._received > self.body_bytes():
            raise self._too_large()
        data = b"".join(self._parts)
        try:
            body = json.loads(data.decode("utf-8"), parse_constant=refuse_constant)
            if b"\\u" in data:  # an escape may be an unpaired surrogate or NUL
                check_texts(body)
        except (ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise BadInput(
                f"the request body is not valid JSON: {reason}", hint="Send a JSON object."
            ) from None
        return body

    def asked(self) -> dict[str, str]:
        """Return the query arguments, without the server's own."""
        try:
            return {
                name: values[-1].decode("utf-8")
                for name, values in self.request.query_arguments.items()
                if name not in SERVER_ARGUMENTS
            }
        except UnicodeDecodeError:
            raise BadInput("the query string is not valid UTF-8") from None

    def compute_etag(self) -> str | None:
        """Return the ETag of the answer, which ignores how long a job has been running."""
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
        """Answer errors raised outside of a route's function, in the same form."""
        raised = more.get("exc_info", (None, None, None))[1]
        kind, hint = _WORDS.get(status_code, ("InternalError" if status_code >= 500 else "BadInput", ""))
        message = responses.get(status_code, "Unknown error")
        if isinstance(raised, web.HTTPError) and raised.log_message and status_code < 500:
            message = raised.log_message % raised.args if raised.args else raised.log_message
        if status_code == 405:
            self.set_header("Allow", ", ".join(self.verbs()))
        error = {"type": kind, "message": message, "hint": hint, "advice": "", "details": {}}
        self.finish(wire.dumps({"error": error}))

    def verbs(self) -> list[str]:
        """Return the verbs of this path."""
        verbs = ("GET", "POST", "PUT", "PATCH", "DELETE")
        return [verb for verb in verbs if verb.lower() in type(self).__dict__]


def content_length(header: str | None) -> int:
    """Return the length of a body from its header; 0 without one.

    Raises
    ------
    BadInput
        It is not a number: malformed, negative, or sent several times with different values.
    """
    if not header:
        return 0
    values = {value.strip() for value in header.split(",")}
    number = values.pop()
    if values or not (number.isascii() and number.isdigit() and len(number) <= _LENGTH_DIGITS):
        raise BadInput(f"Content-Length must be one number of bytes, got {shown(header)}")
    return int(number)


def guarded(action: str) -> Callable[[Any], Any]:
    """Return a decorator that requires a login and permission for ``action``."""

    def guard(method: Any) -> Any:
        return web.authenticated(authorized(action=action, resource="workbench")(method))

    return guard


async def answer_of(handler: WorkbenchHandler, route: Route, path: dict[str, str]) -> None:
    """Answer a request with its route's function, or with an error."""
    try:
        call = _call(handler, route, path)
        if route.body is not None:
            call = Call(call.path, call.query, await _body(handler, route))
        elif route.before is not None:
            call = Call(call.path, call.query, await handler.received())
        answer = await route.call(handler.desk, call)
    except (WorkbenchError, OSError) as error:
        handler.refuse(_safe_error(handler, error))
        return
    handler.set_status(route.status)
    if route.gives_file:
        await _send(handler, answer)
        return
    handler.finish(answer if isinstance(answer, bytes) else wire.dumps(answer))


def _call(handler: WorkbenchHandler, route: Route, path: dict[str, str]) -> Call:
    """Return a request with its path and query arguments checked."""
    for value in path.values():
        check_text(value)
    arguments = handler.asked()
    for value in arguments.values():
        check_text(value)
    if route.query is None and arguments:
        raise BadInput(f"{route.path} takes no parameters, got {', '.join(sorted(arguments))}")
    query = None if route.query is None else fit(route.query, arguments, "the query")
    return Call(path, query)


def _safe_error(handler: WorkbenchHandler, error: WorkbenchError | OSError) -> WorkbenchError:
    """Return an error that is safe to send: it names a full disk, say, but no path on the server."""
    if isinstance(error, WorkbenchError):
        return error
    handler.log.error("workbench: %s", handler.request.path, exc_info=error)
    return StoreError(f"error on the server's disk: {error.strerror or type(error).__name__}")


async def _send(handler: WorkbenchHandler, answer: FileToSend) -> None:
    """Answer with a file's bytes, in parts."""
    handler.set_header("Content-Length", str(answer.size))
    handler.set_header("Cache-Control", "no-cache")
    # the name as it is for those who read RFC 6266; no other characters may be in a header
    named = f"attachment; filename*=UTF-8''{quote(answer.name, safe='')}"
    handler.set_header("Content-Disposition", named)
    handler.set_header("X-Content-Type-Options", "nosniff")
    handler.set_header("Content-Type", answer.type)
    left = answer.size
    try:
        while left:
            part = await handler.desk.on_disk(partial(answer.file.read, min(PART_BYTES, left)))
            if not part:
                raise web.HTTPError(500, "the file was truncated while it was being sent")
            left -= len(part)
            handler.write(part)
            await handler.flush()
        handler.finish(set_content_type=answer.type)
    except (StreamClosedError, asyncio.CancelledError):
        return
    finally:
        answer.file.close()


async def _body(handler: WorkbenchHandler, route: Route) -> Any:
    """Return the checked body; a large one is parsed in a thread."""
    if handler.received_bytes <= BODY_BYTES:
        return json_object(handler.sent(), route)
    return await handler.desk.on_disk(lambda: json_object(handler.sent(), route))
