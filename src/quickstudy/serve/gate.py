"""What a request must pass before anything reads it: who asks, from where, how often, and how much is sent."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.exceptions import HTTPException
from starlette.responses import Response

from quickstudy.errors import ConfigError, brief

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_ASKED_FOR = 'Basic realm="quickstudy", charset="UTF-8"'
_OPEN = ("/healthz", "/readyz")
_STATIC = ("/assets/", "/static/", "/theme.css")  # of the page, which asks for dozens at once


class Rules(NamedTuple):
    """What is let through."""

    token: str | None = None
    """That must come as a bearer token, or as the password of HTTP Basic, which browsers ask for."""
    hosts: tuple[str, ...] = ()
    """Names that the service may be called by; none: any."""
    max_bytes: int = 32 << 20
    """Of a request's body."""
    rate: str | None = None
    """Requests from one address, such as ``"100/second"``; and as many wrong tokens, after which it is shut out."""


class Gate:
    """Lets requests through to an application, or answers them itself with 400, 401, 403, 413 or 429.

    Args:
        app: the application.
        rules: see ``Rules``.
        observe: told of the path as it is routed, the status and the seconds of each request.

    Raises:
        ConfigError: the rate is none.
    """

    def __init__(self, app: App, rules: Rules, observe: Callable[[str, int, float], None]) -> None:
        self._app, self._rules, self._observe = app, rules, observe
        try:
            self._rate = parse(rules.rate) if rules.rate else None
        except ValueError as error:
            raise ConfigError(f"the rate {brief(rules.rate)} is none: write it like 100/second") from error
        self.under_way = 0
        """Requests that are not answered yet."""
        self._too_large = f"more than {rules.max_bytes:,} bytes in one request"
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            if scope["type"] == "websocket" and self._refusal(scope):
                await send({"type": "websocket.close", "code": 1008})
                return
            await self._app(scope, _till_cancelled(receive) if scope["type"] == "lifespan" else receive, send)
            return
        start, status, taken = time.perf_counter(), 0, 0
        bare = scope["method"] == "HEAD"  # what GET answers, without its body
        if bare:
            scope = {**scope, "method": "GET"}

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif bare and "body" in message:
                message = {**message, "body": b""}
            await send(message)

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._rules.max_bytes:
                raise HTTPException(413, self._too_large)
            return message

        self.under_way += 1
        try:
            refusal = self._refusal(scope)
            if refusal is None:
                await self._app(scope, limited, noted)
            else:
                await _refuse(noted, *refusal)
        except asyncio.CancelledError:  # by a second Ctrl-C, or where 30 seconds were not enough
            if not status:
                await _refuse(noted, 503, "the service was stopped before it could answer", {})
        finally:
            self.under_way -= 1
            route = scope.get("route")
            self._observe(getattr(route, "path", None) or "other", status or 499, time.perf_counter() - start)

    def _refusal(self, scope: MutableMapping[str, Any]) -> tuple[int, str, dict[str, str]] | None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        if scope["path"] in _OPEN:
            return None
        rules, host = self._rules, headers.get(b"host", "")
        if rules.hosts and _name(host) not in rules.hosts:
            return 400, f"this service is not called '{_name(host)}': ask for {', '.join(rules.hosts)}", {}
        origin = headers.get(b"origin")
        if origin is not None and _parts(origin).netloc != host:  # another site's page in a visitor's browser
            return 403, "requests from pages of other sites are refused", {}
        known = rules.token is None or _is_given(rules.token, headers.get(b"authorization", "").encode("latin-1"))
        if not self._may_ask((scope.get("client") or ("",))[0], known, scope["path"].startswith(_STATIC)):
            return 429, f"more than {self._rate} from one address", {"retry-after": "1"}
        if not known:
            wrong = "the token is wrong; " if b"authorization" in headers else ""
            return 401, f"{wrong}give the token: Authorization: Bearer TOKEN", {"www-authenticate": _ASKED_FOR}
        length = headers.get(b"content-length", "0")
        if not length.isdigit() or int(length) > rules.max_bytes:
            return 413, self._too_large, {"connection": "close"}
        return None

    def _may_ask(self, address: str, known: bool, static: bool) -> bool:
        """Count a request. Too many wrong tokens shut out the right one, too: else its answer would still tell it."""
        if self._rate is None:
            return True
        if not self._limiter.test(self._rate, address, "guesses"):
            return False
        return (known and static) or self._limiter.hit(self._rate, address, "requests" if known else "guesses")


async def hung_up(*_: object) -> Response:
    """Answer a caller who left before all of its request had come: nobody's error."""
    return Response(status_code=499)


def _till_cancelled(receive: Receive) -> Receive:
    """Let the application end in order where the server drops it, as it does at a second Ctrl-C."""

    async def received() -> Message:
        try:
            return await receive()
        except asyncio.CancelledError:
            return {"type": "lifespan.shutdown"}

    return received


def _name(host: str) -> str:
    return _parts(f"//{host}").hostname or ""


def _parts(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def _is_given(token: str, authorization: bytes) -> bool:
    kind, _, given = authorization.partition(b" ")
    if kind.lower() == b"basic":
        try:
            given = base64.b64decode(given, validate=True).partition(b":")[2]
        except ValueError:
            return False
    elif kind.lower() != b"bearer":
        return False
    return hmac.compare_digest(given.strip(), token.encode())


async def _refuse(send: Send, status: int, detail: str, headers: dict[str, str]) -> None:
    body = json.dumps({"detail": detail}).encode()
    fields = {"content-type": "application/json", "content-length": str(len(body)), **headers}
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
