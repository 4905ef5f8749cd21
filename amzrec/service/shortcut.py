"""The routes that are asked most, reached without FastAPI where a request is plain: the same checks, the same answers.

FastAPI takes some 0.4 ms to find a route, to take a request apart and to put an answer together, as long as the search
itself. A request that this module does not recognise as plain and right goes to FastAPI untouched, so all errors of
requests are FastAPI's, and what a route takes is written once, in the types of its function.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_type_hints

from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TAKEN = frozenset({"/recommend", "/recommend/{customer_id:id}", "/events"})  # paths of the routes that are reached so
PLAIN = re.compile(rb"(?:k=([0-9]{1,9}))?")  # what stands behind the ? of a plain address
JSON = (b"content-type", b"application/json")

Handler = Callable[[Request, Any], Response]
Arguments = dict[str, Any]  # of the function of a route


class Shortcut:
    """An application with shorter ways to some of its routes."""

    def __init__(self, app: ASGIApp, routes: Sequence[Any], handlers: Mapping[type[Exception], Handler]) -> None:
        """`routes` are those of the application, and `handlers` answer the errors that they raise."""
        self.app, self.handlers = app, handlers
        taken = [route for route in routes if route.path in TAKEN]
        self.bodies = {route.path: Body(route) for route in taken if "POST" in route.methods}
        self.addresses = [Address(route) for route in taken if "GET" in route.methods]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection of ASGI."""
        method = scope.get("method")
        if method == "GET":
            for address in self.addresses:
                asked = address.arguments(scope)
                if asked is not None:
                    await self.answer(address.route, asked, scope, receive, send)
                    return
        elif method == "POST" and scope["path"] in self.bodies:
            body, message = self.bodies[scope["path"]], await receive()
            asked = body.arguments(scope, message)
            if asked is not None:
                await self.answer(body.route, asked, scope, receive, send)
                return
            receive = replayed(message, receive)
        await self.app(scope, receive, send)

    async def answer(self, route: APIRoute, asked: Arguments, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the function of a route answer, and its errors be told, as FastAPI does."""
        scope["route"] = route
        try:
            response = await route.endpoint(**asked)
        except Exception as error:
            kind = next(kind for kind in type(error).__mro__ if kind in self.handlers)
            await self.handlers[kind](Request(scope), error)(scope, receive, send)
            if kind is Exception:  # which nobody foresaw, and the log wants to know
                raise
            return
        await response(scope, receive, send)


class Body:
    """A route that takes a body of JSON."""

    def __init__(self, route: APIRoute) -> None:
        self.route = route
        ((self.name, kind),) = taken_by(route)
        self.kind: TypeAdapter[Any] = TypeAdapter(kind)

    def arguments(self, scope: Scope, message: Message) -> Arguments | None:
        """Read the body of a request; None where it is not plain, or no question."""
        plain = [each for each in scope["headers"] if each[0] == JSON[0]] == [JSON]
        if not plain or message["type"] != "http.request" or message.get("more_body"):
            return None
        try:
            return {self.name: self.kind.validate_python(json.loads(message["body"]), from_attributes=True)}
        except Exception:  # whatever it is, FastAPI finds it again, and says so
            return None


class Address:
    """A route whose path ends with an id, with options behind the ?."""

    def __init__(self, route: APIRoute) -> None:
        self.route = route
        self.beginning = route.path.partition("{")[0]
        (self.name, kind), (self.options, options) = taken_by(route)
        self.kinds: tuple[TypeAdapter[Any], TypeAdapter[Any]] = TypeAdapter(kind), TypeAdapter(options)

    def arguments(self, scope: Scope) -> Arguments | None:
        """Read the address of a request; None where it leads elsewhere, is not plain, or no question."""
        path, plain = scope["path"], PLAIN.fullmatch(scope["query_string"])
        if plain is None or not path.startswith(self.beginning):
            return None
        options = {} if plain[1] is None else {"k": plain[1].decode()}
        try:
            return {
                self.name: self.kinds[0].validate_python(path[len(self.beginning) :]),
                self.options: self.kinds[1].validate_python(options),
            }
        except Exception:  # whatever it is, FastAPI finds it again, and says so
            return None


def taken_by(route: APIRoute) -> list[tuple[str, Any]]:
    """List what the function of a route takes, each with its type."""
    return [(name, kind) for name, kind in get_type_hints(route.endpoint, None, None, True).items() if name != "return"]


def replayed(message: Message, receive: Receive) -> Receive:
    """Give a message that was received as if it came now, and then what comes."""
    waiting = [message]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay
