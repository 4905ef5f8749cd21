"""The rating head and the query of a customer as ONNX, for servers that run neither TensorFlow nor numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from amzrec.answers.recommender import Recommender
from amzrec.arrays import Array
from amzrec.errors import AmzrecError
from amzrec.exports.check import close, refused
from amzrec.store.vectors import Vectors

RATING, FOLD_IN = "onnx/rating.onnx", "onnx/fold_in.onnx"
HEADER = '<ir_version: 8, opset_import: ["" : 18]>'  # of 2022: runtimes of the last years read it
SAMPLE = 64  # rows of each kind that are compared with the vectors

RATE = """\
rating (float[B, {wide}] query, float[B, {wide}] product) => (float[B] stars) {{
    left, left_bias, left_sum = Split<axis = 1>(query, parts)
    right, right_bias, right_sum = Split<axis = 1>(product, parts)
    cross = Mul(left, right)
    dot = MatMul(cross, weight)
    sums = Add(left_sum, right_sum)
    sums_and_dot = Add(sums, dot)
    plain = Add(sums_and_dot, mean)
    hidden0 = Concat<axis = 1>(left, left_bias, right, right_bias, cross)
{layers}
    clipped = Clip({last}, low, high)
    stars = Squeeze(clipped, second)
}}
"""

FOLD = """\
fold_in (float[{dims}] base, float[2] biases, float[N, {dims}] bags, float[N, {dims}] residuals,
         float[N] product_bias, float[N] stars, float[N] weight) => (float[Q] retrieval, float[R] rating) {{
    click = IsNaN(stars)
    given = Where(click, mean, stars)
    beyond = Sub(given, mean)
    unrated = Cast<to = 1>(click)
    rated = Sub(one, unrated)
    counted = Mul(weight, rated)
    count = ReduceSum(counted, first)
    shrunk = Add(count, shrinkage)
    said = Mul(weight, beyond)
    total = ReduceSum(said, first)
    bias = Div(total, shrunk)
    expected = Add(product_bias, bias)
    unexpected = Sub(beyond, expected)
    residual = Mul(unexpected, rated)
    residual_column = Unsqueeze(residual, second)
    weight_column = Unsqueeze(weight, second)
    by_stars = Mul(residual_column, residuals)
    each = Add(bags, by_stars)
    weighted = Mul(each, weight_column)
    all = ReduceSum<keepdims = 0>(weighted, first)
    weights = ReduceSum(weight, first)
    more = Add(weights, one)
    root = Sqrt(more)
    history = Div(all, root)
    whole = Add(base, history)
{recent}
    front = Slice(x, nothing, dims)
    scaled = Div(front, temperature)
    retrieval = Concat<axis = 0>(scaled, one)
    back = Slice(x, start, end)
    before, additive = Split<axis = 0, num_outputs = 2>(biases)
    change = Sub(bias, before)
    moved = Mul(change, bias_weight)
    sum = Add(additive, moved)
    rating = Concat<axis = 0>(back, bias, sum)
}}
"""

WHOLE = "    x = Identity(whole)"
RECENT = """\
    shape = Shape(weight)
    length = Squeeze(shape, first)
    places = Range(zero, length, step)
    after = Sub(length, places)
    age = Sub(after, step)
    known = Min(age, oldest)
    by_age = Gather(recent, known)
    worth = Mul(by_age, weight)
    square = Mul(worth, worth)
    squares = ReduceSum(square, first)
    half_more = Add(squares, half)
    norm = Sqrt(half_more)
    worth_column = Unsqueeze(worth, second)
    lasting = Mul(bags, worth_column)
    last = ReduceSum<keepdims = 0>(lasting, first)
    reading = Div(last, norm)
    now = Add(base, reading)
    of_last = Slice(now, nothing, dims)
    of_all = Slice(whole, dims, end)
    x = Concat<axis = 0>(of_last, of_all)"""


def without_onnx() -> str | None:
    """Say why ONNX cannot be written here, or None."""
    try:
        import onnx.reference  # noqa: F401
    except ImportError as error:
        return str(error)
    return None


def model_of(text: str, constants: dict[str, Any]) -> Any:
    """Make a model of a graph in the text form of ONNX, with its constants; it is checked."""
    import onnx
    from onnx import numpy_helper, parser

    model = parser.parse_model(f"{HEADER}\n{text}")
    for name, value in constants.items():
        array = np.asarray(value, np.int64 if np.asarray(value).dtype.kind == "i" else np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.checker.check_model(model, full_check=True)
    return model


def rating(vectors: Vectors) -> Any:
    """The rating head: stars [B] of query and product vectors [B, K + 2], rows of rating_query and rating_candidate."""
    head, dims = vectors.head, len(vectors.rating_weight)
    constants: dict[str, Any] = {
        "parts": [dims, 1, 1],
        "weight": np.asarray(vectors.rating_weight)[:, None],
        "mean": head.mean or 0.0,
        "low": head.low,
        "high": head.high,
        "second": [1],
    }
    lines, last = list[str](), "plain"
    for number, (kernel, bias) in enumerate(vectors.layers):
        constants |= {f"kernel{number}": kernel, f"bias{number}": bias}
        lines.append(f"    product{number} = MatMul(hidden{number}, kernel{number})")
        lines.append(f"    sum{number} = Add(product{number}, bias{number})")
        if number < len(vectors.layers) - 1:
            lines.append(f"    hidden{number + 1} = Relu(sum{number})")
        else:
            lines.append(f"    with_layers = Add(plain, sum{number})")
            last = "with_layers"
    return model_of(RATE.format(wide=dims + 2, layers="\n".join(lines), last=last), constants)


def fold_in(vectors: Vectors) -> Any:
    """The query of a customer after reviews, as Recommender.fold_in: vectors for retrieval and for the rating.

    `base` is the customer's row of query_base, `biases` the last two of rating_query; of each of the N reviews, oldest
    first, come the rows of history_bag, history_residual and product_bias, the stars (NaN: a click) and the weight.
    """
    head, dims = vectors.head, vectors.query_base.shape[1]
    constants: dict[str, Any] = {
        "mean": head.mean or 0.0,
        "one": [1.0],
        "first": [0],
        "second": [1],
        "nothing": [0],
        "shrinkage": [head.bias_shrinkage],
        "dims": [head.retrieval_dims],
        "start": [head.rating_start],
        "end": [dims],
        "temperature": head.temperature,
        "bias_weight": [head.bias_weight],
    }
    recent = vectors.recent_weights
    if recent is not None:
        constants |= {"recent": np.append(recent, 0.0), "oldest": len(recent), "zero": 0, "step": 1, "half": 0.5}
    return model_of(FOLD.format(dims=dims, recent=WHOLE if recent is None else RECENT), constants)


def run(model: Any, inputs: dict[str, Array]) -> list[Array]:
    """Answer by the evaluator that comes with ONNX, which is slow and follows the standard."""
    from onnx.reference import ReferenceEvaluator

    found: list[Array] = ReferenceEvaluator(model).run(None, inputs)
    return found


def inputs_of(model: Recommender, customer: int, liked: Array, stars: Array, weights: Array) -> dict[str, Array]:
    """The inputs of `fold_in` for a customer row who also likes these product rows."""
    vectors, past = model.vectors, model.past(customer, liked, stars, weights)
    found = {
        "base": vectors.query_base[customer],
        "biases": vectors.rating_query[customer][-2:],
        "bags": vectors.history_bag[past.product],
        "residuals": vectors.history_residual[past.product],
        "product_bias": vectors.product_bias[past.product],
        "stars": past.stars,
        "weight": past.weight,
    }
    return {name: np.asarray(array, np.float32) for name, array in found.items()}


def folds(model: Recommender) -> bool:
    """Tell whether fold_in.onnx can be written: not of runs without histories, nor of those with attention."""
    try:
        model.need_histories()
    except AmzrecError:
        return False
    return model.vectors.attention is None


def save(vectors: Vectors, folder: Path) -> None:
    """Write what the run has: the rating head with stars, and the query where histories are folded in.

    What reads products through attention is no part of it. Raises AmzrecError where one does not answer as the vectors
    do.
    """
    model = Recommender(vectors)
    (folder / RATING).parent.mkdir()
    rows = np.linspace(0, len(vectors.customer_ids) - 1, SAMPLE).astype(np.int32)
    products = np.linspace(0, len(vectors.product_ids) - 1, SAMPLE).astype(np.int32)
    if model.has_stars:
        graph = rating(vectors)
        queries = np.asarray(vectors.rating_query[rows])
        found = run(graph, {"query": queries, "product": np.asarray(vectors.rating_candidate[products])})
        if not close(found[0], model.rate(queries, products)):
            raise refused("predicts other stars", RATING)
        (folder / RATING).write_bytes(graph.SerializeToString())
    if not folds(model):
        return
    graph = fold_in(vectors)
    liked, stars = np.unique(products)[-3:], np.array([vectors.head.high, np.nan, vectors.head.low], np.float32)
    for customer in rows[:: SAMPLE // 8]:
        weights = np.array([1.0, 0.5, 1.0], np.float32)
        found = run(graph, inputs_of(model, int(customer), liked, stars[: len(liked)], weights[: len(liked)]))
        query = model.fold_in(int(customer), liked, stars[: len(liked)], weights[: len(liked)])
        if not close(found[0], query.retrieval) or not close(found[1], query.rating):
            raise refused("makes another query", FOLD_IN)
    (folder / FOLD_IN).write_bytes(graph.SerializeToString())
