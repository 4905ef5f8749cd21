"""The REST form of TensorFlow Serving over the same answers: rows or columns in, rows or columns out."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from amzrec.answers.listing import Document
from amzrec.answers.lists import asked
from amzrec.answers.recommender import Recommender
from amzrec.service.desk import Desk, Refused
from amzrec.service.questions import MANY, Id, Predict, Recommend
from amzrec.service.runs import Runs

RULES = ("diversify", "at_most", "at_most_count", "only", "never")
WANTED = {
    "recommend": ("customer_id", "k", "exclude"),
    "recommend_by_rules": ("customer_id", "k", "exclude", *RULES),
    "rate": ("customer_id", "product_id"),
}
COLUMN, IDS = TypeAdapter(list[str | int]), TypeAdapter(list[Id])
Columns = dict[str, Any]


def predicted(desk: Desk, runs: Runs, request: Predict) -> Document:
    """Answer as the SavedModel of `amzrec export` does, events included; Refused where inputs do not fit."""
    signature = "recommend" if request.signature_name == "serving_default" else request.signature_name
    if (request.instances is None) == (request.inputs is None):
        raise Refused(400, "a request has either instances (rows) or inputs (columns)")
    inputs = columns_of(request, signature)
    customers = names(inputs, "customer_id", IDS)
    if not 0 < len(customers) <= MANY:
        raise Refused(400, f"customer_id has {len(customers)} values; allowed: 1 to {MANY}")
    answer = rate(desk, runs, customers, inputs) if signature == "rate" else recommend(desk, runs, customers, inputs)
    if request.inputs is not None:
        return {"outputs": answer["stars"] if signature == "rate" else answer}
    if signature == "rate":
        return {"predictions": answer["stars"]}
    return {"predictions": [{name: column[row] for name, column in answer.items()} for row in range(len(customers))]}


def columns_of(request: Predict, signature: str) -> Columns:
    """Return the inputs by column, whichever way they came."""
    given = request.inputs if request.instances is None else request.instances
    if isinstance(given, dict):
        columns = given
    elif given and all(isinstance(row, dict) for row in given):
        if any(row.keys() != given[0].keys() for row in given):
            raise Refused(400, "all instances must have the same keys")
        columns = {name: [row[name] for row in given] for name in given[0]}
    else:
        columns = {"customer_id": given}
    for name in columns:
        if name not in WANTED[signature]:
            raise Refused(
                400, f"the signature {signature} has no input {name!r}; it has {', '.join(WANTED[signature])}"
            )
    return columns


def names(inputs: Columns, column: str, kind: TypeAdapter[Any] = COLUMN) -> list[str]:
    """Return a column of ids."""
    try:
        return [str(value) for value in kind.validate_python(inputs.get(column))]
    except ValidationError:
        raise Refused(400, f"{column} must be a list of ids, one per row") from None


def recommend(desk: Desk, runs: Runs, customers: list[str], inputs: Columns) -> Columns:
    """Recommend to each customer: lists of min(k, products) entries, padded with "" and 0; `count` are real."""
    k = inputs.get("k", 10)
    if isinstance(k, list) and k and all(each == k[0] for each in k):
        k = k[0]
    if not isinstance(k, int) or isinstance(k, bool) or k < 1:
        raise Refused(400, "k must be one whole number from 1 for all rows")
    desk.need_k([k] * len(customers))
    exclude = inputs.get("exclude", [])
    if isinstance(exclude, list) and len(exclude) <= 1:  # one list is for all rows
        exclude = (exclude or [[]]) * len(customers)
    if not isinstance(exclude, list) or len(exclude) != len(customers):
        raise Refused(400, "exclude must be one list of products, or one per row")
    documents = []
    for customer, left_out in zip(customers, exclude, strict=True):
        ids = [name for name in names({"exclude": left_out}, "exclude") if name]
        rules = rules_of(inputs, runs.of(customer).recommender)
        try:
            question = Recommend(customer_id=customer, k=k, exclude=ids, **(rules or {}))
        except ValidationError as error:
            raise Refused(400, f"{error.errors()[0]['loc'][0]}: {error.errors()[0]['msg']}") from None
        documents.append({"recommendations": []} if rules is None else desk.recommend(runs, question))
    width = min(k, min(len(served.recommender.candidates) for served, _ in runs.all()))
    lists = [document["recommendations"][:width] for document in documents]
    answer: Columns = {
        name: [[entry.get(name, blank) for entry in each] + [blank] * (width - len(each)) for each in lists]
        for name, blank in (("product_id", ""), ("title", ""), ("score", 0.0), ("stars", 0.0))
    }
    if not runs.main.recommender.has_stars:
        del answer["stars"]
    return answer | {"count": [len(each) for each in lists]}


def rules_of(inputs: Columns, model: Recommender) -> dict[str, Any] | None:
    """Return the rules of `recommend_by_rules`, "" being none; None where nothing can follow them.

    As in the SavedModel, a feature or a name that no product has matches nothing.
    """
    only, never, limited = (
        [text for text in names({name: inputs.get(name, [])}, name) if text] for name in ("only", "never", "at_most")
    )
    counts = inputs.get("at_most_count", [])
    if not isinstance(counts, list) or len(counts) != len(inputs.get("at_most", [])):
        raise Refused(400, "at_most and at_most_count must be as long")
    most = {name: count for name, count in zip(inputs.get("at_most", []), counts, strict=True) if name in limited}
    has = model.vectors.features.find if model.vectors.features else lambda _: None
    known = [feature for feature in only if has(feature) is not None]
    if {feature.partition("=")[0] for feature in only} - {feature.partition("=")[0] for feature in known}:
        return None
    return {
        "only": known,
        "never": [feature for feature in never if has(feature) is not None],
        "at_most": [f"{name}={count}" for name, count in most.items() if name in model.feature_names],
        "diversify": inputs.get("diversify", 0.0),
    }


def rate(desk: Desk, runs: Runs, customers: list[str], inputs: Columns) -> Columns:
    """Predict the stars of pairs; an unknown customer or product counts as an average one."""
    products = names(inputs, "product_id")
    if len(products) != len(customers):
        raise Refused(400, f"there are {len(customers)} customers and {len(products)} products: one of each per row")
    stars = []
    for customer, product in zip(customers, products, strict=True):
        model = runs.of(customer).recommender
        if not model.has_stars:
            raise Refused(400, "this run was trained on clicks alone and knows no stars")
        query = asked(model, model.customer(customer), desk.acts(model, customer, ()).likes)
        row = np.array([model.find_product(product)], np.int32)
        stars.append(round(float(model.rate(query.rating[None], row)[0]), 6))
    return {"stars": stars}
