"""The routes of the service: which question each one asks, and how its answer looks."""

from __future__ import annotations

import asyncio
import functools
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import JSONResponse
from pydantic import Discriminator, Field, Tag
from starlette.convertors import Convertor, register_url_convertor

from amzrec.answers.listing import Document
from amzrec.errors import AmzrecError
from amzrec.service import answered, questions
from amzrec.service.desk import Refused, facts
from amzrec.service.guard import PREDICT
from amzrec.service.predict import predicted
from amzrec.service.questions import (
    MANY,
    AddressCount,
    AddressOptions,
    AddressProduct,
    AddressProducts,
    AddressSearch,
    Id,
)
from amzrec.service.runs import Runs
from amzrec.service.service import Service

REFUSALS = (400, 401, 404, 408, 413, 422, 503, 504)
PROBLEMS: dict[int | str, dict[str, Any]] = {status: {"model": answered.Problem} for status in REFUSALS}


class AnyText(Convertor[str]):
    """The rest of an address as an id: with slashes, and with line breaks, at which the one for paths ends."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        """Take it as it is."""
        return value

    def to_string(self, value: str) -> str:
        """Write it as it is."""
        return value


register_url_convertor("id", AnyText())


def batch(value: Any) -> str:
    """Tell one question from a list of them."""
    return "list" if isinstance(value, list) else "one"


Customer = Annotated[Id, Path(description="Id of a customer, known or not.")]
Recommends = Annotated[
    Annotated[questions.Recommend, Tag("one")]
    | Annotated[list[questions.Recommend], Field(min_length=1, max_length=MANY), Tag("list")],
    Discriminator(batch),
]
Rates = Annotated[
    Annotated[questions.Rate, Tag("one")]
    | Annotated[list[questions.Rate], Field(min_length=1, max_length=MANY), Tag("list")],
    Discriminator(batch),
]
Similars = Annotated[
    Annotated[questions.Similar, Tag("one")]
    | Annotated[list[questions.Similar], Field(min_length=1, max_length=MANY), Tag("list")],
    Discriminator(batch),
]
Explains = Annotated[
    Annotated[questions.Explain, Tag("one")]
    | Annotated[list[questions.Explain], Field(min_length=1, max_length=MANY), Tag("list")],
    Discriminator(batch),
]
Events = Annotated[
    Annotated[questions.Event, Tag("one")]
    | Annotated[list[questions.Event], Field(min_length=1, max_length=MANY), Tag("list")],
    Discriminator(batch),
]


def counts_of(asked: Any) -> list[int]:
    """List how many products each question wants."""
    return [one.k for one in (asked if isinstance(asked, list) else [asked])]


def documented(model: Any, many: bool = False) -> dict[int | str, dict[str, Any]]:
    """Describe the answers of a route for OpenAPI."""
    return PROBLEMS | {200: {"model": model | list[model] if many else model}}


def questions_of(service: Service) -> APIRouter:
    """Make the routes that ask something."""
    router, desk = APIRouter(tags=["questions"]), service.desk

    @router.post("/recommend", responses=documented(answered.Recommendations, True))
    async def recommend_many(asked: Recommends) -> JSONResponse:
        """List the best products for one customer or for many, with what they like and did."""
        return await service.ask(desk.recommend, asked, counts_of(asked))

    @router.get("/recommend/{customer_id:id}", responses=documented(answered.Recommendations))
    async def recommend_one(customer_id: Customer, options: Annotated[AddressOptions, Query()]) -> JSONResponse:
        """List the best products for one customer."""
        given = {name: getattr(options, name) for name in options.model_fields_set}
        asked = questions.Recommend(customer_id=customer_id, **given)
        return await service.ask(desk.recommend, asked, [asked.k])

    @router.post("/rate", responses=documented(answered.Ratings, True))
    async def rate_many(asked: Rates) -> JSONResponse:
        """Predict the stars that customers would give to products, the best first."""
        return await service.ask(desk.rate, asked)

    @router.get("/rate/{customer_id:id}", responses=documented(answered.Ratings))
    async def rate_one(customer_id: Customer, wanted: Annotated[AddressProducts, Query()]) -> JSONResponse:
        """Predict the stars that one customer would give to products, the best first."""
        asked = questions.Rate(customer_id=customer_id, products=wanted.product, at=wanted.at)
        return await service.ask(desk.rate, asked)

    @router.post("/similar", responses=documented(answered.Alike, True))
    async def similar_many(asked: Similars) -> JSONResponse:
        """List the products that are most like one."""
        return await service.ask(desk.similar, asked, counts_of(asked))

    @router.get("/similar/{product:id}", responses=documented(answered.Alike))
    async def similar_one(product: Annotated[Id, Path()], wanted: Annotated[AddressCount, Query()]) -> JSONResponse:
        """List the products that are most like one."""
        return await service.ask(desk.similar, questions.Similar(product=product, k=wanted.k), [wanted.k])

    return router


def explanations_of(service: Service) -> APIRouter:
    """Make the routes that ask why, who, and what there is."""
    router, desk = APIRouter(tags=["questions"]), service.desk

    @router.post("/explain", responses=documented(answered.Explanation, True))
    async def explain_many(asked: Explains) -> JSONResponse:
        """Take the score of a product for a customer apart: popularity + customer + terms of the history + others."""
        return await service.ask(desk.explain, asked, counts_of(asked))

    @router.get("/explain/{customer_id:id}", responses=documented(answered.Explanation))
    async def explain_one(customer_id: Customer, wanted: Annotated[AddressProduct, Query()]) -> JSONResponse:
        """Take the score of a product for a customer apart."""
        asked = questions.Explain(customer_id=customer_id, product=wanted.product, k=wanted.k)
        return await service.ask(desk.explain, asked, [wanted.k])

    @router.get("/products", responses=documented(answered.Products))
    async def products(wanted: Annotated[AddressSearch, Query()]) -> JSONResponse:
        """List products whose title begins with q, or whose id it is, then those whose title holds it elsewhere."""
        return await service.ask(desk.products, wanted, [wanted.k])

    @router.get("/customers/{customer_id:id}", responses=documented(answered.Customer))
    async def customers(customer_id: Customer) -> JSONResponse:
        """Tell what a customer reviewed, and did since."""
        return await service.ask(desk.customer, customer_id)

    return router


def events_of(service: Service) -> APIRouter:
    """Make the route that stores what customers do."""
    router = APIRouter(tags=["events"])

    @router.post("/events", responses=documented(answered.Stored))
    async def events(asked: Events) -> JSONResponse:
        """Store one event or many, all or none; when this is answered they are on the disk, and answers heed them."""
        if service.store is None:
            raise Refused(503, "this service keeps no events: start it with --events events.db")
        kept = service.desk.events(asked if isinstance(asked, list) else [asked])
        stored = await asyncio.wrap_future(service.store.add(kept))
        service.telemetry.events.labels("stored").inc(stored)
        service.telemetry.events.labels("known").inc(len(kept) - stored)
        return JSONResponse({"stored": stored, "known": len(kept) - stored})

    return router


def tensorflow_serving(service: Service) -> APIRouter:
    """Make the routes that TensorFlow Serving has."""
    router = APIRouter(tags=["TensorFlow Serving"])

    @router.post(PREDICT, responses=PROBLEMS)
    async def predict(asked: questions.Predict) -> JSONResponse:
        """Answer as TensorFlow Serving does with the SavedModel of amzrec export, events included."""
        return await service.ask(functools.partial(predicted, service.desk), asked)

    @router.get(PREDICT.removesuffix(":predict"), responses=PROBLEMS)
    async def status() -> JSONResponse:
        """Tell that the model can be asked."""
        ok = {"error_code": "OK", "error_message": ""}
        return JSONResponse({"model_version_status": [{"version": "1", "state": "AVAILABLE", "status": ok}]})

    return router


def operations(service: Service) -> APIRouter:
    """Make the routes that operators and their tools ask."""
    router = APIRouter(tags=["operations"])

    def runs_of(runs: Runs) -> Document:
        return {"runs": [facts(served, share) for served, share in runs.all()], "most_k": service.config.most_k}

    @router.get("/run", responses=documented(answered.Runs))
    async def run() -> JSONResponse:
        """Tell which runs answer."""
        return JSONResponse(runs_of(service.shelf.now))

    @router.get("/healthz", responses=documented(answered.State))
    async def healthz() -> JSONResponse:
        """Tell that the process answers."""
        return JSONResponse({"status": "ok"})

    @router.get("/readyz", responses=documented(answered.State))
    async def readyz() -> JSONResponse:
        """Tell that questions are answered, and events can be read."""
        if service.store is not None:
            await service.work(functools.partial(service.store.of, ""), questions=0)
        return JSONResponse({"status": "ready"})

    @router.get("/metrics", response_class=Response, responses=PROBLEMS | {200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Give figures to Prometheus."""
        return Response(service.telemetry.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @router.post("/admin/reload", responses=documented(answered.Runs) | {403: {"model": answered.Problem}})
    async def reload() -> JSONResponse:
        """Open the runs again from where they lie, and answer from them; the old ones stay where that fails."""
        if service.config.token is None:
            raise Refused(403, "reloading by request needs a token: start the service with --token, or send it SIGHUP")
        try:
            runs = await service.reload()
        except AmzrecError as error:  # which names folders of this machine
            raise Refused(400, "not reloaded, the run before goes on answering: the log says why") from error
        service.others()
        return JSONResponse(runs_of(runs))

    return router
