"""Drawn inputs against slow, obvious twins: ranks and votes against sorting, metrics against loops; any document."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amzrec.answers.index import ExactIndex
from amzrec.answers.ranks import MISS, best
from amzrec.arrays import Lists
from amzrec.errors import AmzrecError
from amzrec.evaluation import metrics
from amzrec.store.dataset import DatasetInfo
from amzrec.store.documents import Document
from amzrec.store.manifest import Manifest
from amzrec.store.memory import Memory, Votes, strongest
from amzrec.store.run import RunInfo
from amzrec.store.vectors import VectorsIndex
from amzrec.training.state import State
from test_documents import DATASET, HEAD, RUN

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
whole = st.integers(-3, 3).map(float)  # few values: many ties, and every sum is exact
scores = st.one_of(whole, st.just(-math.inf), st.just(math.nan))


def tables(values: st.SearchStrategy[float], most: int = 40) -> st.SearchStrategy[np.ndarray]:
    """Float32 tables with 1 to 4 lines."""
    shapes = st.tuples(st.integers(1, 4), st.integers(1, most))
    return shapes.flatmap(
        lambda shape: st.lists(values, min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]).map(
            lambda drawn: np.array(drawn, np.float32).reshape(shape)
        )
    )


@QUICK
@given(table=tables(scores, 80), k=st.integers(0, 90))
def test_the_best_are_those_of_a_stable_sort_without_what_is_no_number(table: np.ndarray, k: int) -> None:
    found = best(table.copy(), k)
    for line, columns in zip(table, found.tolist(), strict=True):
        known = [c for c in np.argsort(-line, kind="stable").tolist() if line[c] > -math.inf][:k]
        assert columns == known + [-1] * (k - len(known))


@QUICK
@given(data=st.data(), k=st.integers(1, 30))
def test_answers_with_exclusions_and_votes_are_those_of_sorting_all_products(data: st.DataObject, k: int) -> None:
    products = data.draw(st.integers(1, 25))
    rows = np.flatnonzero(data.draw(st.lists(st.booleans(), min_size=products, max_size=products))).astype(np.int32) + 1
    candidates = np.array(
        data.draw(st.lists(st.tuples(whole, whole), min_size=len(rows), max_size=len(rows))), np.float32
    ).reshape(-1, 2)
    queries = np.array(data.draw(st.lists(st.tuples(whole, whole), min_size=1, max_size=4)), np.float32)
    lists = st.lists(st.integers(0, products + 2), max_size=12)
    exclude = [np.array(data.draw(lists), np.int32) for _ in queries]
    voted = [np.unique(np.array(data.draw(lists), np.int32)) for _ in queries]
    weights = np.array([data.draw(whole) for one in voted for _ in one], np.float32)
    votes = Votes(Lists.join(voted), weights)
    top, top_scores = ExactIndex(candidates, rows).search(queries, k, exclude, votes)
    place = 0
    for query, (mine, out) in enumerate(zip(voted, exclude, strict=True)):
        known = {int(row): float(queries[query] @ vector) for row, vector in zip(rows, candidates, strict=True)}
        for product in mine.tolist():
            if product in known:
                known[product] += float(weights[place])
            place += 1
        order = sorted((row for row in known if row not in set(out.tolist())), key=lambda row: (-known[row], row))[:k]
        assert top[query].tolist() == order + [0] * (k - len(order))
        assert top_scores[query, : len(order)].tolist() == [known[row] for row in order]
        assert (top_scores[query, len(order) :] == -np.inf).all()


@QUICK
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), max_size=40), st.integers(1, 6))
def test_the_strongest_of_each_group_are_those_of_a_stable_sort(drawn: list[tuple[int, int]], keep: int) -> None:
    drawn.sort(key=lambda pair: pair[0])
    group, weight = (np.array([pair[n] for pair in drawn], np.int64) for n in (0, 1))
    known = []
    for each in set(group.tolist()):
        places = np.flatnonzero(group == each)
        known += sorted(places.tolist(), key=lambda place: (-weight[place], place))[:keep]
    assert strongest(group, weight.astype(np.float32), keep).tolist() == sorted(known)


@QUICK
@given(data=st.data())
def test_votes_are_those_of_a_loop_over_the_history(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 12))
    pairs = data.draw(
        st.dictionaries(st.tuples(st.integers(1, size - 1), st.integers(1, size - 1)), st.integers(1, 4), max_size=40)
    )
    voter, product = (np.array([pair[n] for pair in pairs], np.int64) for n in (0, 1))
    memory = Memory.of_pairs(voter, product, np.array(list(pairs.values()), np.float32), size)
    histories = [
        np.array(data.draw(st.lists(st.integers(1, size - 1), unique=True, max_size=size)), np.int32) for _ in range(3)
    ]
    votes = memory.votes(Lists.join(histories))
    for query, history in enumerate(histories):
        known: dict[int, float] = {}
        for mine in history.tolist():
            for (one, other), weight in pairs.items():
                if one == mine and other not in history:
                    known[other] = known.get(other, 0.0) + weight
        span = votes.products.span(query)
        found = dict(zip(votes.products.items[span].tolist(), votes.weights[span].tolist(), strict=True))
        assert found == pytest.approx(known)


@QUICK
@given(st.lists(st.tuples(st.integers(0, 3), st.one_of(st.integers(0, 30), st.just(MISS))), min_size=1, max_size=40))
def test_ranking_metrics_are_those_of_a_loop(drawn: list[tuple[int, int]]) -> None:
    owners = sorted({owner for owner, _ in drawn})
    owner = np.array([owners.index(who) for who, _ in drawn])
    above = np.array([rank for _, rank in drawn])
    found = metrics.per_customer(above, owner, len(owners))
    for customer in range(len(owners)):
        mine = sorted(above[owner == customer].tolist())
        hits = [rank for rank in mine if rank < 10]
        ideal = sum(1 / math.log2(place + 2) for place in range(min(10, len(mine))))
        assert found["recall@10"][customer] == pytest.approx(len(hits) / len(mine))
        assert found["ndcg@10"][customer] == pytest.approx(sum(1 / math.log2(rank + 2) for rank in hits) / ideal)
        assert found["mrr"][customer] == pytest.approx(0 if mine[0] == MISS else 1 / (mine[0] + 1))
        assert found["hit@10"][customer] == (mine[0] < 10)
    shares = metrics.top_k(above)
    assert shares == {f"top_{k}": pytest.approx(sum(rank < k for rank in above) / len(above)) for k in metrics.TOP}


@QUICK
@given(tables(st.integers(1, 5).map(float), 6), st.data())
def test_the_ndcg_of_lists_is_one_for_the_true_order_and_depends_on_the_order_alone(
    stars: np.ndarray, data: st.DataObject
) -> None:
    count = stars.size
    drawn = data.draw(st.lists(st.integers(-50, 50), min_size=count, max_size=count, unique=True))
    predicted = np.array(drawn, np.float64).reshape(stars.shape)
    found = metrics.list_ndcg(stars, predicted, 1, 5)
    np.testing.assert_array_equal(metrics.list_ndcg(stars, 3 * predicted + 7, 1, 5), found)
    judged = found[~np.isnan(found)]
    assert ((judged > 0) & (judged <= 1 + 1e-12)).all()
    assert (np.isnan(found) == (stars == 1).all(axis=1)).all()
    true = metrics.list_ndcg(stars, stars, 1, 5)
    np.testing.assert_allclose(true[~np.isnan(true)], 1.0)


# --- documents: bytes in, a document or an AmzrecError out

MANIFEST: dict[str, Any] = {
    "kind": "run folder",
    "identity": "0" * 32,
    "files": {"run.json": {"size": 3, "crc32": "01234567"}},
    "checksum": "01234567",
}
STATE: dict[str, Any] = {
    "settings": {"recipe": {}, "fingerprint": "f", "protocol": {}},
    "phase": "refit",
    "epoch": 2,
    "choices": {"best": {"rating": 1}, "memory": {"kind": "order", "ridge": 0.0, "share": 1.0}, "moment": None},
}
KINDS: list[tuple[type[Document], dict[str, Any]]] = [
    (RunInfo, RUN),
    (DatasetInfo, DATASET),
    (VectorsIndex, {"files": {}, "layers": 0, "head": HEAD}),
    (Manifest, MANIFEST),
]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def changed(document: Any, data: st.DataObject) -> Any:
    """A JSON document with one value, somewhere in it, in place of another."""
    if isinstance(document, dict) and document and data.draw(st.booleans()):
        key = data.draw(st.sampled_from(sorted(document)))
        return document | {key: changed(document[key], data)}
    return data.draw(values)


@QUICK
@given(data=st.data(), known=st.sampled_from(KINDS))
def test_a_document_with_any_other_value_is_read_or_refused_in_one_line(
    data: st.DataObject, known: tuple[type[Document], dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    kind, document = known
    file = tmp_path_factory.getbasetemp() / "document.json"
    file.write_text(json.dumps(changed(document, data)), encoding="utf-8")
    with contextlib.suppress(AmzrecError):
        read = kind.read(file, "make it again")
        assert type(read) is kind
        read.to_json()


@QUICK
@given(
    content=st.binary(max_size=60) | st.text(alphabet='{}[]":,0123456789.eE-nulltrfasNI ', max_size=60).map(str.encode)
)
def test_any_bytes_are_a_document_or_refused(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    file: Path = tmp_path_factory.getbasetemp() / "bytes.json"
    file.write_bytes(content)
    for kind, _ in KINDS:
        with contextlib.suppress(AmzrecError):
            kind.read(file, "make it again")
    with pytest.raises(AmzrecError, match="--overwrite"):
        State.read(file)


@QUICK
@given(data=st.data())
def test_a_damaged_state_of_a_training_is_read_or_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "state.json"
    document = changed(STATE, data)
    file.write_text(json.dumps(document), encoding="utf-8")
    with contextlib.suppress(AmzrecError):
        state = State.read(file)
        assert state.reached()
        assert state.changed(STATE["settings"] | {"from": None}) is not None
