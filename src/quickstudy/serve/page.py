"""The page for people, which is made when the first of them asks for it: Gradio takes seconds to import."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from quickstudy.errors import MissingPackageError, require
from quickstudy.serve.decoding import Decoder
from quickstudy.serve.gate import App, Message, Receive, Send, hung_up
from quickstudy.serve.service import Service

_API = "/gradio_api/"
# All that the page asks for. The rest of Gradio's routes is for programs, which have an interface of their own.
_WHOLE = ("/", "/config", "/theme.css", "/manifest.json", "/favicon.ico", "/pwa_icon")
_CALLS = ("upload", "upload_progress", "startup-events", "reset", "cancel")
_BELOW = ("/assets/", "/static/", "/svelte/", _API + "queue/", _API + "heartbeat/")
_JOIN = _API + "queue/join"
_TURN, _PATIENCE = 0.1, 5.0
"""Seconds between looks at whether the server leaves; those that requests have to end then."""
_LOG = logging.getLogger(__name__)


class Page:
    """An ASGI application for the paths that the interface for programs leaves.

    Args:
        service: what answers.
        decoder: of what is dropped on the page.
        max_bytes: of a file.
    """

    path = "page"
    """Its name among the service's figures, whatever the path."""

    def __init__(self, service: Service, decoder: Decoder, max_bytes: int) -> None:
        self._service, self._decoder, self._max_bytes = service, decoder, max_bytes
        self.leaving: Callable[[], bool] = lambda: False
        """Whether the server waits for its connections to end, as those of an open page would not."""
        self._over = False
        self._life: asyncio.Task[None] | None = None
        self._made: asyncio.Future[App] | None = None
        self._folder = self._files = ""
        self._functions: set[int] = set()
        self._asked: set[asyncio.Future[None]] = set()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request.

        Raises:
            HTTPException: there is no such path, or it is asked for otherwise.
        """
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        path: str = scope["path"]
        if not (
            path in _WHOLE
            or path.removeprefix(_API) in _CALLS
            or path.startswith(_BELOW)
            or (self._files and path.startswith(self._files))
        ):
            raise HTTPException(404)
        if path == "/" and scope["method"] != "GET":
            raise HTTPException(405, headers={"allow": "GET"})
        scope["route"] = self
        if self._life is None:  # no lock: nothing is awaited in between
            self._made = asyncio.get_running_loop().create_future()
            self._life = asyncio.create_task(self._live(self._made))
        assert self._made is not None
        try:
            app = await asyncio.shield(self._made)
        except MissingPackageError as error:
            await _answer(send, 501, "text/plain; charset=utf-8", f"There is no page: {error}\nPrograms: /docs\n")
        except Exception:
            await _answer(send, 500, "text/plain; charset=utf-8", "The page failed: see the log.\nPrograms: /docs\n")
        else:
            if path.startswith(_JOIN):
                body = await _body(receive)
                if refusal := self._refusal(body):
                    await _answer(send, refusal[0], "application/json", json.dumps({"detail": refusal[1]}))
                    return
                receive = _again(body, receive)
            await self._answered(app, dict(scope), receive, send)

    async def _answered(self, app: App, scope: Message, receive: Receive, send: Send) -> None:
        """Let the page answer, unless the server has been leaving for a while, as some requests have no end."""
        request = asyncio.ensure_future(app(scope, receive, send))
        self._asked.add(request)
        try:
            await request
        except asyncio.CancelledError:
            if not self.leaving():
                raise
        finally:
            self._asked.discard(request)

    async def close(self) -> None:
        """End what runs for the page, and remove its files."""
        self._over = True
        if self._life is not None:
            await asyncio.wait([self._life])  # which may have been cancelled before

    def _refusal(self, body: bytes) -> tuple[int, str] | None:
        """Say why a call is refused: it names a function that is none, or a file that was not dropped on the page.

        A mounted Gradio would fail at the one, and read the other.
        """

        def own(value: Any) -> bool:
            if isinstance(value, list):
                return all(map(own, value))
            if not isinstance(value, dict):
                return True
            path = value.get("path")
            if path is not None and not (isinstance(path, str) and path.startswith(self._folder)):  # as URLs do not
                return False
            if path is not None and not Path(path).resolve().is_relative_to(self._folder):
                return False
            return all(map(own, value.values()))

        try:
            call = json.loads(body)
            if not own(call):
                return 403, "no file of this page"
            number = call["fn_index"]
        except (ValueError, RecursionError, TypeError, KeyError):
            return 400, "no call of this page"
        return None if isinstance(number, int) and number in self._functions else (404, "no function of this page")

    async def _live(self, made: asyncio.Future[App]) -> None:
        """Hold the page from its first request to its end: what it enters it leaves in the same task."""
        with tempfile.TemporaryDirectory(prefix="quickstudy-page-", ignore_cleanup_errors=True) as folder:
            try:
                holder, inner = await asyncio.to_thread(self._make, folder)
                self._folder = str(Path(folder).resolve())
                self._files = f"{_API}file={Path(self._folder).as_posix()}/"
                async with holder.router.lifespan_context(holder):
                    made.set_result(holder)
                    patience = _PATIENCE
                    while not self._over:
                        await asyncio.sleep(_TURN)
                        if self.leaving():
                            inner.stop_event.set()
                            patience -= _TURN
                        if patience < 0:
                            for request in self._asked:
                                request.cancel()
            except Exception as error:
                if made.done():
                    raise
                if not isinstance(error, MissingPackageError):
                    _LOG.exception("the page failed")
                made.set_exception(error)

    def _make(self, folder: str) -> tuple[Any, Any]:
        os.environ.update(GRADIO_TEMP_DIR=folder, GRADIO_ANALYTICS_ENABLED="False")
        gradio = require("gradio", "serve")
        from fastapi import FastAPI

        from quickstudy.serve.widgets import CSS, HEAD, theme, widgets

        holder = FastAPI(openapi_url=None)
        gradio.mount_gradio_app(
            holder,
            widgets(self._service, self._decoder),
            "/",
            app_kwargs={"openapi_url": None},
            footer_links=[],
            run_history=False,
            show_error=False,
            max_file_size=self._max_bytes,
            ssr_mode=False,
            enable_monitoring=False,
            pwa=False,
            mcp_server=False,
            theme=theme(),
            css=CSS,
            head=HEAD,
        )
        inner = holder.routes[-1].app  # type: ignore[attr-defined]
        inner.add_exception_handler(ClientDisconnect, hung_up)
        self._functions = {number for number, each in inner.get_blocks().fns.items() if each.fn is not None}
        return holder, inner


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def _again(body: bytes, receive: Receive) -> Receive:
    """Give a body that was read, and then what comes after it."""
    read: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return read.pop() if read else await receive()

    return again


async def _answer(send: Send, status: int, kind: str, text: str) -> None:
    body = text.encode()
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
