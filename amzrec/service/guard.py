"""What every request passes before it reaches a route: token, size and time of its body; and what each answer bears."""

from __future__ import annotations

import asyncio
import hmac
import json
import re
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from amzrec.config import ServeConfig
from amzrec.page.files import PAGE_POLICY, PARTS
from amzrec.service.runs import LOG
from amzrec.service.telemetry import Telemetry, log_access

BODILESS = frozenset({"GET", "HEAD"})  # methods whose requests have a body only where one of …
OF_BODY = frozenset({b"content-length", b"transfer-encoding"})  # … these headers says so
OPEN = frozenset({"/healthz", "/readyz"})  # what load balancers ask, without a token
METHODS = frozenset({"GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"})
PAGE = frozenset({"/", *(f"/page/{name}" for name in PARTS)})  # files without data, which ask for the token themselves
FREE = OPEN | PAGE
SECURITY = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]
PORT = re.compile(r":[0-9]*\Z")
POLICY = b"content-security-policy"
OF_ANSWERS = (*SECURITY, (POLICY, b"default-src 'none'; frame-ancestors 'none'"))  # what is no page loads nothing
OF_PAGES = (*SECURITY, (POLICY, f"{PAGE_POLICY}; frame-ancestors 'none'".encode()))
PREDICT = "/v1/models/amzrec:predict"  # whose clients may say any type of content, as TensorFlow Serving reads none
JSON = (b"content-type", b"application/json")
FAILED = "this could not be answered; the log of the service says why"
GONE = 499  # in figures and logs: the client went before it was answered


class TooLarge(Exception):
    """A body that is larger than allowed."""


class Gone(Exception):
    """The client closed the connection."""


class Exchange:
    """One request and what has been answered."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope, self._send = scope, send
        self.started, self.status, self.size = time.perf_counter(), GONE, 0

    async def send(self, message: Message) -> None:
        """Send a part of the answer, with the headers that every answer bears."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            borne = OF_PAGES if self.scope["path"] in PAGE else OF_ANSWERS
            message = {**message, "headers": [*message.get("headers", ()), *borne]}
        elif message["type"] == "http.response.body":
            self.size += len(message.get("body", b""))
        await self._send(message)

    async def refuse(self, status: int, error: str, *headers: tuple[bytes, bytes]) -> None:
        """Answer with an error."""
        body = json.dumps({"error": error}).encode()
        length = (b"content-length", str(len(body)).encode())
        start = {"type": "http.response.start", "status": status}
        await self.send({**start, "headers": [JSON, length, *headers]})
        await self.send({"type": "http.response.body", "body": body})


class Guard:
    """The application with a guard before it."""

    def __init__(self, app: ASGIApp, config: ServeConfig, telemetry: Telemetry) -> None:
        self.app, self.config, self.telemetry = app, config, telemetry
        self.hosts = config.hosts()
        self.bearer = None if config.token is None else f"Bearer {config.token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection of ASGI."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            exchange = Exchange(scope, send)
            try:
                await self.answer(exchange, receive)
            finally:
                self.record(exchange)
        else:
            await send({"type": "websocket.close", "code": 1003})

    async def answer(self, exchange: Exchange, receive: Receive) -> None:
        """Let a request through, or refuse it."""
        scope = exchange.scope
        if scope["path"] not in OPEN and not self.meant(scope):
            await exchange.refuse(
                400,
                f"the header Host names another machine; allowed: {', '.join(sorted(self.hosts or ()))} (--allow-host)",
            )
            return
        if scope["path"] not in FREE and not self.allowed(scope):
            await exchange.refuse(
                401, "this needs the header Authorization: Bearer TOKEN", (b"www-authenticate", b"Bearer")
            )
            return
        try:
            if scope["method"] not in BODILESS or any(name in OF_BODY for name, _ in scope["headers"]):
                async with asyncio.timeout(self.config.timeout):
                    receive = again(await self.body(scope, receive), receive)
            if scope["path"] == PREDICT:
                scope["headers"] = [*(each for each in scope["headers"] if each[0] != JSON[0]), JSON]
            await self.app(scope, receive, exchange.send)
        except TooLarge:
            await exchange.refuse(413, f"the body is larger than {self.config.most_bytes} bytes (--most-bytes)")
        except TimeoutError:
            await exchange.refuse(408, f"the body did not come within {self.config.timeout:g} s (--timeout)")
        except Gone:
            return
        except Exception:  # the client learns that it failed, the log why
            LOG.exception("a request failed")
            if exchange.status == GONE:
                await exchange.refuse(500, FAILED)

    def meant(self, scope: Scope) -> bool:
        """Tell whether a request names a host that it may, against names that lead other sites' pages here.

        What names none comes from no browser.
        """
        if self.hosts is None:
            return True
        given = [value for name, value in scope["headers"] if name == b"host"]
        return not given or (len(given) == 1 and PORT.sub("", given[0].decode("latin-1")).lower() in self.hosts)

    def allowed(self, scope: Scope) -> bool:
        """Tell whether a request bears the token, in a time that tells nothing about it."""
        if self.bearer is None:
            return True
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(given[0], self.bearer)

    async def body(self, scope: Scope, receive: Receive) -> bytes:
        """Read a body that is not larger than allowed."""
        length = dict(scope["headers"]).get(b"content-length", b"")
        if length.isdigit() and int(length[:20]) > self.config.most_bytes:
            raise TooLarge
        parts, size, more = list[bytes](), 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Gone
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self.config.most_bytes:
                raise TooLarge
            more = message.get("more_body", False)
        return b"".join(parts)

    def record(self, exchange: Exchange) -> None:
        """Count a request and write its line."""
        scope, seconds = exchange.scope, time.perf_counter() - exchange.started
        route: Any = scope.get("route")
        method = scope["method"] if scope["method"] in METHODS else "other"
        self.telemetry.request(getattr(route, "path", "none"), method, exchange.status, seconds)
        if self.config.access_log:
            client = (scope.get("client") or ("",))[0]
            log_access(scope["method"], scope["path"], exchange.status, seconds, exchange.size, client)


def again(body: bytes, receive: Receive) -> Receive:
    """Give a body that was read as if it came now, and then what comes."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay
