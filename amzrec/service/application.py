"""The application: all routes, how their errors look, and what its description says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from amzrec import __version__
from amzrec.config import ServeConfig
from amzrec.errors import AmzrecError
from amzrec.service.desk import Refused
from amzrec.service.events import Unavailable
from amzrec.service.guard import FAILED, OPEN
from amzrec.service.pages import looked_at, page_of
from amzrec.service.routes import events_of, explanations_of, operations, questions_of, tensorflow_serving
from amzrec.service.service import Service
from amzrec.service.shortcut import Handler, Shortcut

WAYS = ("body", "path", "query", "one", "list")  # where FastAPI found a mistake: no part of what a client sent


def application(service: Service) -> ASGIApp:
    """Put all routes together, with shorter ways to those that are asked most."""

    @contextlib.asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(service.watch()) if service.config.watch else None
        yield
        if watching is not None:
            watching.cancel()
        service.close()

    app = FastAPI(title="amzrec", version=__version__, lifespan=life, docs_url=None, redoc_url=None)
    routers = [
        routes(service)
        for routes in (page_of, questions_of, looked_at, explanations_of, events_of, tensorflow_serving, operations)
    ]
    for router in routers:
        app.include_router(router)
    describe(app, service.config)
    for kind, handler in HANDLERS.items():
        app.add_exception_handler(kind, handler)
    return Shortcut(app, [route for router in routers for route in router.routes], HANDLERS)


def describe(app: FastAPI, config: ServeConfig) -> None:
    """Let the description say what this service allows: the kinds of events, the largest k, and who may ask."""
    schema = app.openapi()
    if config.token is not None:
        schema["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        schema["security"] = [{"token": []}]
        for path in OPEN:
            schema["paths"][path]["get"]["security"] = []
    schemas = schema["components"]["schemas"]
    schemas["Event"]["properties"]["kind"]["enum"] = list(config.weights())
    counts = [model["properties"]["k"] for model in schemas.values() if "k" in model.get("properties", {})]
    of_routes = [
        each["schema"]
        for path in schema["paths"].values()
        for route in path.values()
        for each in route.get("parameters", [])
        if each["name"] == "k"
    ]
    for count in (*counts, *of_routes):
        count["maximum"] = config.most_k


def problem(status: int, error: str) -> JSONResponse:
    """Answer with an error."""
    return JSONResponse({"error": error}, status, {"Retry-After": "1"} if status == 503 else None)


def unanswered(request: Request, error: Exception) -> JSONResponse:
    """Answer what FastAPI itself refuses: unknown routes, other methods, bodies that are no JSON."""
    assert isinstance(error, HTTPException)
    texts = {404: "there is no such route", 405: f"this route does not take {request.method}"}
    text = f"{texts[error.status_code]}: see /openapi.json" if error.status_code in texts else str(error.detail)
    return JSONResponse({"error": text}, error.status_code, error.headers)


def sentence(error: Exception) -> str:
    """Say in one line what is wrong with a request, and where."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":  # its place is a number of characters
        return f"the body is no JSON: {first['ctx']['error']}, at character {first['loc'][-1]}"
    where = ".".join(str(part) for part in first["loc"] if part not in WAYS)
    more = f" (and {len(error.errors()) - 1} more)" if len(error.errors()) > 1 else ""
    text = f"{where or 'the body'}: {first['msg'].removeprefix('Value error, ')}{more}"
    return text.encode("utf-8", "replace").decode()[:1000]


HANDLERS: dict[type[Exception], Handler] = {  # how the errors of routes are answered
    Refused: lambda _, error: problem(getattr(error, "status", 400), str(error)),
    AmzrecError: lambda _, error: problem(400, str(error)),
    Unavailable: lambda _, error: problem(503, str(error)),
    RequestValidationError: lambda _, error: problem(422, sentence(error)),
    HTTPException: unanswered,
    Exception: lambda _, error: problem(500, FAILED),
}
