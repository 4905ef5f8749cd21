"""What answers hold, for OpenAPI: nothing is checked against these models, which say what comes."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class Problem(BaseModel):
    """Why a request was refused, in one sentence."""

    error: str


class Product(BaseModel):
    """A product; what is not known is left out."""

    product_id: str
    title: str | None = None


class Listed(Product):
    """A product in a list, the best first."""

    rank: int
    score: float | None = None
    stars: float | None = None


class Recommendations(BaseModel):
    """The document of `amzrec recommend --json`, and the run that it comes from."""

    customer_id: str
    answered_from: str
    recommendations: list[Listed]
    unknown_excluded: list[str] | None = None
    unknown_allowed: list[str] | None = None
    run: str


class Ratings(BaseModel):
    """The document of `amzrec rate --json`, and the run that it comes from."""

    customer_id: str
    answered_from: str
    ratings: list[Listed]
    run: str


class Alike(Product):
    """The document of `amzrec similar --json`, and the run that it comes from."""

    similar: list[Listed]
    run: str


class Term(Product):
    """What a product of the history says for a product: through the vectors, and by its vote."""

    stars: float | None = None
    vector: float
    vote: float
    term: float


class Explanation(Product):
    """A score as popularity + customer + the terms of the history + others."""

    customer_id: str
    answered_from: str
    score: float
    popularity: float
    average_popularity: float
    in_order: bool
    customer: float
    history: list[Term]
    others: float
    run: str


class Past(Product):
    """What a customer did."""

    stars: float | None = None
    kind: str | None = None
    time: int | None = None


class Customer(BaseModel):
    """What is known of a customer: reviews of the run, and events since."""

    customer_id: str
    answered_from: str
    history: list[Past]
    events: list[Past]
    run: str


class Found(BaseModel):
    """A customer of the run, and how many reviews there are."""

    customer_id: str
    reviews: int


class Customers(BaseModel):
    """Customers that were looked for, in the order of their ids."""

    customers: list[Found]
    run: str


class Model(BaseModel):
    """What a run is worth, as its page shows it; what is not there is null or empty."""

    run: str
    version: str
    finished: float
    seconds: float
    source: str | None
    settings: dict[str, Any]
    best_epochs: dict[str, int]
    untrained: list[str]
    counts: dict[str, int]
    stars: list[float] | None
    figures: dict[str, Any] | None
    missing: str | None
    curves: list[dict[str, Any]]
    shares: dict[str, Any] | None


class Products(BaseModel):
    """Products that were searched for, the most reviewed first."""

    products: list[Product]
    run: str


class Stored(BaseModel):
    """How many events were stored, and how many had been stored before under their key."""

    stored: int
    known: int


class Served(BaseModel):
    """A run that is served."""

    run: str
    share: float
    products: int
    customers: int
    index: dict[str, Any]  # exact, or what ScaNN was tuned to and what it is worth
    stars: list[float] | None


class Runs(BaseModel):
    """The runs that are served, and how many products one request may ask for."""

    runs: list[Served]
    most_k: int


class State(BaseModel):
    """Whether the service is well."""

    status: str
