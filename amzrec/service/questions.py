"""What requests hold: each question as a model that refuses what it does not know, with an example for OpenAPI."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

LONGEST = 1000  # characters of an id
MANY = 1000  # requests, products or events in one body
NOW = "seconds since 1970 or a date with time, such as 2026-01-31T12:00:00Z; without it, now"
AS_OF = "as of when, in seconds since 1970 or a date with time; without it, as of the last reviews of the run"
FIRST, LAST = 0, 4_102_444_800  # 1970 and 2100, in seconds


def whole(value: Any) -> Any:
    """Take 5.0 for 5, which are one number in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def an_id(value: Any) -> Any:
    """Take whole numbers for ids as well, and refuse what no database and no line of a file could keep as an id."""
    value = whole(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and "\x00" in value:
        raise ValueError("an id has no character NUL")
    return value


def seconds(value: Any) -> Any:
    """Read a date with time as seconds; one without offset is UTC."""
    if isinstance(value, str):
        try:
            when = datetime.datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"allowed: {NOW}") from None
        return (when if when.tzinfo else when.replace(tzinfo=datetime.UTC)).timestamp()
    return value


AN_ID = {
    "anyOf": [{"type": "string", "minLength": 1, "maxLength": LONGEST, "pattern": "^[^\\x00]+$"}, {"type": "integer"}]
}


def number(value: Any) -> Any:
    """Read seconds in an address, where all is text."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


A_DATE = r"^(19[89]\d|20\d\d)-(0[1-9]|1[0-2])-([01][1-9]|2[0-8])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(Z|[+-]0\d:[0-5]\d)$"
A_TIME = {"anyOf": [{"type": "number", "minimum": FIRST, "maximum": LAST}, {"type": "string", "pattern": A_DATE}]}
Id = Annotated[str, Field(min_length=1, max_length=LONGEST), BeforeValidator(an_id), WithJsonSchema(AN_ID)]
Seconds = Annotated[
    float, Field(ge=FIRST, le=LAST, allow_inf_nan=False), BeforeValidator(seconds), WithJsonSchema(A_TIME)
]
SecondsOfAddress = Annotated[Seconds, BeforeValidator(number)]
Stars = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
Ids = Annotated[list[Id], Field(max_length=MANY)]
Features = Annotated[list[str], Field(max_length=100)]
Limits = Annotated[list[Annotated[str, Field(pattern=r"^[^=]+=[1-9][0-9]{0,8}$")]], Field(max_length=100)]
EMPTY: Any = Field(default_factory=list, json_schema_extra={"default": []})  # [] itself would be copied deeply, 10 µs
Count = Annotated[int, Field(ge=1, description="How many to list."), BeforeValidator(whole)]


class Question(BaseModel):
    """A JSON object without unknown keys."""

    model_config = ConfigDict(extra="forbid", str_max_length=LONGEST, strict=True)


class Like(Question):
    """A product that a customer likes, beyond what the run and the events know."""

    product_id: Annotated[Id, Field(description="Id or exact title of a product.")]
    stars: Stars | None = None
    time: Annotated[Seconds | None, Field(description=NOW)] = None


Likes = Annotated[list[Like | Id], Field(max_length=MANY, description="In order of time, the latest last.")]


class Options(Question):
    """Which list of products is wanted."""

    k: Count = 10
    exclude: Annotated[Ids, Field(description="Products that are not listed.")] = EMPTY
    allow: Annotated[Ids | None, Field(description="The only products that are listed; without it, all may be.")] = None
    only: Annotated[Features, Field(description="Features that products must have: category=Toys.")] = EMPTY
    never: Annotated[Features, Field(description="Features that products must not have.")] = EMPTY
    include_seen: Annotated[bool, Field(description="Also list what the customer reviewed.")] = False
    sort: Literal["retrieval", "stars", "blend"] = "retrieval"
    diversify: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0
    at_most: Annotated[Limits, Field(description="Most products with one value of a feature: category=2.")] = EMPTY
    at: Annotated[Seconds | None, Field(description=AS_OF)] = None


class AddressOptions(Options):
    """The same in an address, where all is text, and what is liked has neither stars nor time."""

    model_config = ConfigDict(strict=False)
    liked: Annotated[Ids, Field(description="Products that the customer likes, the latest last.")] = EMPTY
    at: Annotated[SecondsOfAddress | None, Field(description=AS_OF)] = None


class Address(Question):
    """What stands behind the ? of an address, where all is text."""

    model_config = ConfigDict(strict=False)


class AddressProducts(Address):
    """Which products a customer would rate."""

    product: Annotated[Ids, Field(min_length=1, description="May be repeated.")]
    at: Annotated[SecondsOfAddress | None, Field(description=AS_OF)] = None


class AddressCount(Address):
    """How many are wanted."""

    k: Count = 10


class AddressProduct(AddressCount):
    """Which product, and how many terms of its score are wanted."""

    product: Id


class AddressSearch(AddressCount):
    """Which products are looked for."""

    q: Annotated[str, Field(max_length=200, description="Beginning of a title, or an id.")] = ""


class AddressCustomers(AddressCount):
    """Which customers are looked for."""

    q: Annotated[str, Field(max_length=LONGEST, description="Beginning of an id.")] = ""


class AddressRun(Address):
    """Which run is looked at."""

    run: Annotated[str | None, Field(description="One of those that are served; without it, the main one.")] = None


class Who(Question):
    """Which customer is asked for."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"customer_id": "A1"}]})
    customer_id: Id


class Recommend(Options):
    """Which list of products is wanted, and for whom."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"customer_id": "A1", "k": 3},
                {"customer_id": "new", "liked": [{"product_id": "B1", "stars": 5, "time": 1767225600}, "B2"]},
                {"customer_id": "A1", "allow": ["B1", "B2", "B3"], "at": "2026-01-31T12:00:00Z"},
                {"customer_id": "A1", "exclude": ["B3"], "only": ["category=Toys"], "at_most": ["brand=2"]},
            ]
        }
    )
    customer_id: Id
    liked: Likes = EMPTY


class Rate(Question):
    """Which products a customer would rate."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"customer_id": "A1", "products": ["B1", "B2"]}]})
    customer_id: Id
    products: Annotated[list[Id], Field(min_length=1, max_length=MANY)]
    at: Annotated[Seconds | None, Field(description=AS_OF)] = None
    liked: Likes = EMPTY


class Similar(Question):
    """What is wanted that is like a product."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"product": "B1", "k": 5}]})
    product: Id
    k: Count = 10


class Explain(Question):
    """Whose score of which product is wanted in its terms."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"customer_id": "A1", "product": "B1", "k": 5}]})
    customer_id: Id
    product: Id
    k: Count = 10
    liked: Likes = EMPTY


class Event(Question):
    """What a customer did with a product."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"customer_id": "A1", "product_id": "B1", "kind": "purchase", "key": "order-17-1"},
                {"customer_id": "A1", "product_id": "B2", "stars": 4, "time": "2026-01-31T12:00:00Z"},
            ]
        }
    )
    customer_id: Id
    product_id: Id
    stars: Stars | None = None
    kind: Annotated[str, Field(min_length=1, max_length=100)] = "review"
    time: Annotated[Seconds | None, Field(description=NOW)] = None
    key: Annotated[Id | None, Field(description="An event of a key that is stored already is not stored again.")] = None


class Predict(Question):
    """A request as TensorFlow Serving takes it: rows in `instances`, or columns in `inputs`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"inputs": {"customer_id": ["A1", "A2"], "k": 3, "exclude": [["B1"], [""]]}},
                {"signature_name": "rate", "instances": [{"customer_id": "A1", "product_id": "B1"}]},
            ]
        }
    )
    signature_name: Literal["serving_default", "recommend", "recommend_by_rules", "rate"] = "serving_default"
    instances: Annotated[list[Any] | None, Field(max_length=MANY)] = None
    inputs: dict[str, Any] | list[Any] | None = None
