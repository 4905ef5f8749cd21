"""Who is tested on what: shares, boundaries and invariants of every split."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError
from amzrec.reviews import engines, ids, split
from amzrec.reviews.engines.protocol import Engine

Rows = list[tuple[str, str, int | None]]  # customer, product, time


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return engines.connect(tmp_path_factory.mktemp("engine"))


def parts_of(engine: Engine, rows: Rows, split_name: str, **settings: Any) -> dict[tuple[str, str], int]:
    """(customer, product) → part of the split of these reviews."""
    engine.drop(ids.PRODUCT_FACTS, ids.CUSTOMER_IDS, ids.PRODUCT_IDS)
    columns = list(zip(*rows, strict=True))
    clean = engine.create_table(
        "clean",
        pa.table(
            {
                "customer_id": pa.array(columns[0], pa.string()),
                "product_id": pa.array(columns[1], pa.string()),
                "timestamp": pa.array(columns[2], pa.int64()),
                "stars": pa.array([5.0] * len(rows), pa.float32()),
                "is_test": pa.array([False] * len(rows)),
            }
        ),
        overwrite=True,
    )
    config = PrepareConfig.of(split=split_name, **settings)
    clean = ids.hashed(engine, clean)
    ids.keep_ids(engine, clean, [])
    reviews = clean.mutate(part=split.part_at_once(clean, config)).drop("customer_id", "product_id")
    done = ids.with_ids(engine, split.with_part(engine, reviews, config))
    return {(r["customer_id"], r["product_id"]): r["part"] for r in engine.fetch(done).to_pylist()}


def rows_with(reviews_of: dict[str, int]) -> Rows:
    """Customers with so many reviews each, at the times 0, 1, 2, …"""
    return [(c, f"p{i}", i) for c, n in reviews_of.items() for i in range(n)]


def test_one_review_trains_two_have_a_test_and_three_also_a_valid_one(engine: Engine) -> None:
    found = parts_of(engine, rows_with({"one": 1, "two": 2, "three": 3}), "leave-last-out")
    assert found[("one", "p0")] == split.TRAIN
    assert [found[("two", f"p{i}")] for i in range(2)] == [split.TRAIN, split.TEST]
    assert [found[("three", f"p{i}")] for i in range(3)] == [split.TRAIN, split.VALID, split.TEST]


def test_leave_last_out_without_valid_keeps_the_one_before_the_last_in_train(engine: Engine) -> None:
    found = parts_of(engine, rows_with({"u": 3}), "leave-last-out", valid=0)
    assert [found[("u", f"p{i}")] for i in range(3)] == [split.TRAIN, split.TRAIN, split.TEST]


@pytest.mark.parametrize("name", ["random", "per-customer", "temporal", "leave-last-out"])
def test_a_test_share_of_nothing_leaves_no_test_reviews_in_any_split(engine: Engine, name: str) -> None:
    rows = rows_with({f"u{i}": 5 for i in range(20)})
    assert set(parts_of(engine, rows, name, test=0, valid=0.3).values()) == {split.TRAIN, split.VALID}
    assert set(parts_of(engine, rows, name, test=0, valid=0).values()) == {split.TRAIN}


def test_without_a_test_share_the_last_of_each_customer_is_valid_or_the_latest_times_are(engine: Engine) -> None:
    rows = rows_with({"one": 1, "three": 3})  # at the times 0, and 0, 1, 2
    last = parts_of(engine, rows, "leave-last-out", test=0)
    assert [pair for pair, part in last.items() if part == split.VALID] == [("three", "p2")]
    latest = parts_of(engine, rows, "temporal", test=0, valid=0.5)
    assert {pair for pair, part in latest.items() if part == split.VALID} == {("three", "p1"), ("three", "p2")}


def test_reviews_of_the_same_time_stay_on_one_side_of_a_temporal_split(engine: Engine) -> None:
    rows: Rows = [("u", f"p{i}", [1, 1, 1, 2, 3, 3, 3, 3, 4, 4][i]) for i in range(10)]
    found = parts_of(engine, rows, "temporal", test=0.3, valid=0.25)
    # a share of .3 is 3 of 10: the nearest boundary is 2 (time 4), as 6 (times 3 and 4) is further away
    assert {p for p, part in found.items() if part == split.TEST} == {("u", "p8"), ("u", "p9")}
    # .25 of the 8 left is 2: 4 reviews (time 3) is the nearest boundary
    assert {p for p, part in found.items() if part == split.VALID} == {("u", f"p{i}") for i in range(4, 8)}


@pytest.mark.parametrize("name", ["temporal", "leave-last-out"])
def test_a_split_by_time_says_how_many_reviews_have_no_time(engine: Engine, name: str) -> None:
    with pytest.raises(AmzrecError, match=r"1 of 2 have none.*--split random"):
        parts_of(engine, [("u", "p", 1), ("u", "q", None)], name)


def test_a_temporal_split_of_one_single_time_is_an_error(engine: Engine) -> None:
    with pytest.raises(AmzrecError, match="all 2 have the same time"):
        parts_of(engine, [("u", "p", 7), ("u", "q", 7)], "temporal")


def test_per_customer_takes_a_rounded_share_of_each_and_never_all(engine: Engine) -> None:
    found = parts_of(engine, rows_with({"ten": 10, "two": 2, "one": 1}), "per-customer", test=0.2, valid=0.25)
    sizes = {c: sorted(part for (customer, _), part in found.items() if customer == c) for c in ("ten", "two", "one")}
    assert sizes["ten"] == [split.TRAIN] * 6 + [split.VALID] * 2 + [split.TEST] * 2  # 10 · .2 test, 8 · .25 valid
    assert sizes["two"] == [split.TRAIN, split.VALID]  # round(.4) = 0 test, 2 · .25 = .5 rounds to 1 valid
    assert sizes["one"] == [split.TRAIN]


def test_random_shares_are_met_within_sampling_error(engine: Engine) -> None:
    found = list(parts_of(engine, rows_with({f"u{i}": 10 for i in range(400)}), "random", test=0.2, valid=0.1).values())
    # 4,000 draws: standard deviation of the share .0063 (test) and .0048 (valid of the rest)
    assert found.count(split.TEST) / 4000 == pytest.approx(0.2, abs=0.026)
    assert found.count(split.VALID) / 4000 == pytest.approx(0.08, abs=0.02)


def test_a_random_split_does_not_depend_on_the_order_of_rows_but_on_the_seed(engine: Engine) -> None:
    rows = rows_with({f"u{i}": 5 for i in range(40)})
    first = parts_of(engine, rows, "random")
    assert parts_of(engine, rows[::-1], "random") == first
    assert parts_of(engine, rows, "random", seed=43) != first


def test_a_random_split_is_the_md5_that_anybody_can_compute(engine: Engine) -> None:
    import hashlib

    found = parts_of(engine, rows_with({f"u{i}": 1 for i in range(50)}), "random", test=0.3, valid=0)
    for (customer, product), part in found.items():
        digest = hashlib.md5(f"{customer}\x1f{product}\x1f42".encode()).hexdigest()
        assert part == (split.TEST if int(digest[:8], 16) < round(0.3 * 2**32) else split.TRAIN)


reviews = st.dictionaries(
    st.tuples(st.sampled_from("abcde"), st.sampled_from("vwxyz")), st.integers(0, 6), min_size=2, max_size=25
)


@pytest.mark.slow
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=reviews, name=st.sampled_from(["random", "per-customer", "temporal", "leave-last-out"]))
def test_every_kept_review_is_in_exactly_one_part_and_train_is_older_than_test(
    engine: Engine, rows: dict[tuple[str, str], int], name: str
) -> None:
    try:
        found = parts_of(engine, [(c, p, t) for (c, p), t in rows.items()], name)
    except AmzrecError:
        assert name == "temporal"
        assert len(set(rows.values())) < 3
        return
    assert set(found) == set(rows)
    assert set(found.values()) <= {split.TRAIN, split.VALID, split.TEST}
    times = {part: [rows[pair] for pair, p in found.items() if p == part] for part in range(3)}
    if name == "temporal":
        assert max(times[split.TRAIN]) < min(times[split.TEST])
        assert max(times[split.TRAIN]) < min(times[split.VALID]) <= max(times[split.VALID]) < min(times[split.TEST])
    for customer in {c for c, _ in rows} if name in ("per-customer", "leave-last-out") else ():
        mine = {p: part for (c, p), part in found.items() if c == customer}
        assert split.TRAIN in mine.values()
        if name == "leave-last-out" and len(mine) > 1:
            last = [rows[(customer, p)] for p, part in mine.items() if part == split.TEST]
            assert last == [max(t for (c, _), t in rows.items() if c == customer)]
