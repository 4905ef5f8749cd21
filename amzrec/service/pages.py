"""The routes of the page: its files, the figures of a run, and customers by the beginning of their id."""

from __future__ import annotations

import functools
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse
from pydantic import Discriminator, Field, Tag

from amzrec.answers.listing import Document
from amzrec.answers.names import ids_beginning_with
from amzrec.errors import AmzrecError
from amzrec.page.files import INDEX, PARTS, content, type_of
from amzrec.page.summary import described
from amzrec.service import answered, questions
from amzrec.service.desk import Refused
from amzrec.service.questions import MANY
from amzrec.service.routes import batch, documented
from amzrec.service.runs import Runs, Served
from amzrec.service.service import Service
from amzrec.store.run import open_run

Asked = Annotated[
    Annotated[questions.Who, Tag("one")]
    | Annotated[list[questions.Who], Field(min_length=1, max_length=MANY), Tag("list")],
    Discriminator(batch),
]


def page_of(service: Service) -> APIRouter:
    """Make the routes of the page's files, which hold no data."""
    router = APIRouter(include_in_schema=False)

    def file(name: str) -> Response:
        return Response(content(name), media_type=type_of(name))

    async def answer(name: str) -> Response:
        return file(name)

    router.add_api_route("/", functools.partial(answer, INDEX), methods=["GET"])
    for name in PARTS:
        router.add_api_route(f"/page/{name}", functools.partial(answer, name), methods=["GET"])
    return router


def looked_at(service: Service) -> APIRouter:
    """Make the routes that the page asks beside those of all clients."""
    router, desk = APIRouter(tags=["questions"]), service.desk

    @router.get("/customers", responses=documented(answered.Customers))
    async def customers(wanted: Annotated[questions.AddressCustomers, Query()]) -> JSONResponse:
        """List customers of the run whose id begins with q, in the order of their ids, each with its reviews."""
        return await service.ask(found_customers, wanted, [wanted.k])

    @router.post("/customers", responses=documented(answered.Customer, True))
    async def customer(asked: Asked) -> JSONResponse:
        """Tell what one customer or many reviewed, and did since; for ids that no address holds, such as `..`."""
        return await service.ask(lambda runs, who: desk.customer(runs, who.customer_id), asked)

    @router.get("/model", responses=documented(answered.Model))
    async def model(wanted: Annotated[questions.AddressRun, Query()]) -> JSONResponse:
        """Tell what a run is worth: figures beside baselines, slices, training curves, what is recommended."""
        return await service.ask(figures, wanted)

    return router


def found_customers(runs: Runs, asked: questions.AddressCustomers) -> Document:
    """Find customers by the beginning of their id, in the main run."""
    vectors = runs.main.recommender.vectors
    begins = vectors.seen_offsets
    rows = ids_beginning_with(asked.q, vectors.customer_ids, asked.k)
    found = [{"customer_id": vectors.customer_ids[row], "reviews": int(begins[row + 1] - begins[row])} for row in rows]
    return {"customers": found, "run": runs.main.name}


def figures(runs: Runs, asked: questions.AddressRun) -> Document:
    """Describe a run that is served; Refused (404) for another one."""
    by_name = {served.name: served for served, _ in runs.all()}
    name = runs.main.name if asked.run is None else asked.run
    if name not in by_name:
        raise Refused(404, f"no run {name!r} is served here; served: {', '.join(by_name)}")
    return files_now(by_name[name]) | by_name[name].figures


def files_now(served: Served) -> Document:
    """Read what the folder of a served run says now, such as figures that came after the service had started."""
    try:
        found = open_run(served.run.path)
    except AmzrecError:
        found = None
    if found is None or found.info.finished != served.run.info.finished:
        gone = "Its folder is gone, or holds another run by now: reload the service to see that one."
        return described(served.run, there=False) | {"missing": gone}
    return described(found)
