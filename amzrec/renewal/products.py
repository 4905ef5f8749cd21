"""Products after an update: how popular each is, how it is rated, and its vectors with the raters that came."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa

from amzrec.answers.folding import sums
from amzrec.arrays import Array, Doubles, Floats, Ints, Lists, Rows, give_back, offsets_of, positions
from amzrec.features.popularity import Popularity
from amzrec.features.profiles import PRODUCT_BIAS_SHRINKAGE
from amzrec.renewal.beliefs import believed
from amzrec.renewal.ledger import Entries, Ledger, shrunk, times_of
from amzrec.store.run import RunInfo
from amzrec.store.strings import Strings
from amzrec.store.times import period_of
from amzrec.store.vectors import Put, Vectors, as_made

AT_ONCE = 1 << 16  # reviews whose vectors are added up at a time


@dataclasses.dataclass(frozen=True)
class Fitted:
    """The reviews that vectors are computed from, after an update: n of them, by customer and time."""

    lists: Lists  # [C + 1] product rows of each customer
    stars: Floats  # [n] beside their items, as is `time`
    time: Ints  # [n]
    added: Entries
    removed: Entries  # those of the reviews before that were fitted and are replaced

    @classmethod
    def of(cls, ledger: Ledger, tags: tuple[int, ...]) -> Fitted:
        """Find the reviews of these parts."""
        fitted, lists = np.isin(ledger.part, tags), ledger.products
        if fitted.all():
            columns = [lists.items, ledger.stars, ledger.time]
        else:
            before = np.append(0, np.cumsum(fitted, dtype=positions(len(fitted))))  # fitted reviews before each place
            lists = Lists(before[lists.offsets].astype(np.int64), lists.items)
            columns = [column[fitted] for column in (lists.items, ledger.stars, ledger.time)]
        removed = ledger.removed.take(np.isin(ledger.removed.part, tags))
        return cls(Lists(lists.offsets, columns[0]), columns[1], columns[2], ledger.added, removed)

    @property
    def changed(self) -> Rows:
        """Return the products whose fitted reviews changed, ascending."""
        rows: Rows = np.unique(np.concatenate([self.added.product, self.removed.product]))
        return rows


def product_tables(
    vectors: Vectors, info: RunInfo, fitted: Fitted, new: pa.Table, put: Put = as_made
) -> dict[str, Array]:
    """Return the fields of Vectors about products that an update changes; `new` are the new products, by row.

    Counts, popularity and the shrunk means of the stars are those of all fitted reviews. What products add to the
    histories of customers stays as it was learned, and so does `product_bias`, which their residuals are taken against;
    a new product adds nothing. The vectors follow the raters whose vectors are learned: see Vectors.
    """
    old = len(vectors.product_ids)
    size = old + new.num_rows
    counts = np.bincount(fitted.lists.items, minlength=size)
    found: dict[str, Array] = {"product_counts": counts}
    for name in ("history_bag", "history_residual"):
        found[name] = put(name, with_zeros(getattr(vectors, name), size))
    fresh = (counts > 0) & (with_zeros(vectors.product_counts, size) == 0)  # products without reviews until now
    retrieval, rating, base = begun(vectors, new)
    before, bias = rating[:, -2].copy(), rating[:, -2].copy()
    if vectors.head.mean is not None:
        anew = shrunk(fitted.lists.items, fitted.stars, vectors.head.mean, size, PRODUCT_BIAS_SHRINKAGE)
        bias[fitted.changed] = anew[fitted.changed]
    rating[:, -1] += bias_weight(vectors) * (bias - before)
    found["product_bias"] = np.where(fresh, bias, with_zeros(vectors.product_bias, size)).astype(np.float32)
    if base is not None:
        found |= vectors_of_raters(vectors, fitted, retrieval, rating, bias, base, put)
        found["product_base"] = put("product_base", base)
        del base
    rating[:, -2] = bias
    found["rating_candidate"] = put("rating_candidate", rating)
    del rating
    found |= popular(vectors, info, fitted, retrieval, fresh)
    found["retrieval_candidate"] = put("retrieval_candidate", retrieval)
    return found


def with_zeros(table: Array, rows: int) -> Array:
    """Return a copy of an array with so many rows, those behind its last one 0."""
    grown: Array = np.concatenate([table, np.zeros((rows - len(table), *table.shape[1:]), table.dtype)])
    give_back(table)
    return grown


def begun(vectors: Vectors, new: pa.Table) -> tuple[Floats, Floats, Floats | None]:
    """Return retrieval_candidate, rating_candidate and product_base with rows for new products, as is believed of them.

    Their bias is 0, and their additive term is without one; b is set elsewhere.
    """
    retrieval, rating, base = vectors.retrieval_candidate, vectors.rating_candidate, vectors.product_base
    if not new.num_rows:
        return retrieval.copy(), rating.copy(), base if base is None else base.copy()
    unbiased = rating[:, -1] - bias_weight(vectors) * rating[:, -2]
    known = [retrieval, rating[:, :-2], np.zeros((len(rating), 1), np.float32), unbiased[:, None]]
    width = retrieval.shape[1], rating.shape[1]
    more = believed(vectors, new, [*known, *([] if base is None else [base])])
    parts = np.split(more, np.cumsum(width), axis=1)
    return (
        np.concatenate([retrieval, parts[0]]),
        np.concatenate([rating, parts[1]]),
        None if base is None else np.concatenate([base, parts[2]]),
    )


def bias_weight(vectors: Vectors) -> float:
    """Return the weight of a product's bias in its additive term; of runs that did not keep it, the slope over both."""
    if vectors.head.product_bias_weight is not None:
        return vectors.head.product_bias_weight
    bias, additive = (np.asarray(vectors.rating_candidate[:, column], np.float64) for column in (-2, -1))
    counts = np.asarray(vectors.product_counts, np.float64)
    if not counts.any() or not bias.any():
        return 1.0
    bias, additive = (each - np.average(each, weights=counts) for each in (bias, additive))
    return float(counts @ (bias * additive)) / max(float(counts @ np.square(bias)), 1e-9)


def vectors_of_raters(
    vectors: Vectors, fitted: Fitted, retrieval: Floats, rating: Floats, bias: Floats, base: Floats, put: Put
) -> dict[str, Array]:
    """Let the vectors of products, in `retrieval` and `rating`, follow what changed among their raters, some at a time.

    Raters without a learned vector, the new customers, say nothing of a product. A product whose raters are all such
    stays at what is believed of it. `bias` [N + 1] are the biases as of now, those in `rating` as they were, and `base`
    [N + 1, D] the vectors without raters. Returns product_level and product_raters as of now.
    """
    assert vectors.product_level is not None
    assert vectors.product_raters is not None
    size, head = len(bias), vectors.head
    level, raters = with_zeros(vectors.product_level, size), with_zeros(vectors.product_raters, size)
    changed = np.zeros(size, np.bool_)
    changed[fitted.changed] = True
    came, went = (of_learned(vectors, reviews) for reviews in (fitted.added, fitted.removed))
    for start in range(0, size, AT_ONCE):
        rows = slice(start, min(start + AT_ONCE, size))
        if not changed[rows].any():
            continue
        total, level_gain, raters_gain = gains(vectors, ((came, 1), (went, -1)), rows)
        whole = np.empty_like(base[rows])
        whole[:, : head.retrieval_dims], whole[:, head.rating_start :] = retrieval[rows, :-1], rating[rows, :-2]
        apart = (whole - base[rows]) * np.sqrt(raters[rows] + 1)[:, None]
        history = np.where((raters[rows] == 0)[:, None], 0, apart) + rating[rows, -2:-1] * level[rows]
        level[rows] += level_gain
        raters[rows] += raters_gain
        moved = changed[rows] & (raters[rows] > 0)
        shared = np.sqrt(np.maximum(raters[rows], 0) + 1)[:, None]
        anew = base[rows] + (history + total - bias[rows, None] * level[rows]) / shared
        whole[moved] = anew[moved]
        retrieval[rows, :-1], rating[rows, :-2] = whole[:, : head.retrieval_dims], whole[:, head.rating_start :]
    return {"product_level": put("product_level", level), "product_raters": raters}


def of_learned(vectors: Vectors, reviews: Entries) -> Entries:
    """Return the reviews of customers whose vectors are learned, by product."""
    assert vectors.rater_bag is not None
    reviews = reviews.take(reviews.customer < len(vectors.rater_bag))
    return reviews.take(np.argsort(reviews.product, kind="stable"))


def gains(vectors: Vectors, changes: tuple[tuple[Entries, int], ...], rows: slice) -> tuple[Doubles, Floats, Ints]:
    """Add up what reviews that came, 1, and reviews that went, −1, say of each of P products: sums, levels, raters.

    The reviews are sorted by product; `rows` are those of the products. Sums and levels are [P, D].
    """
    assert vectors.rater_bag is not None
    assert vectors.rater_residual is not None
    products, width = rows.stop - rows.start, vectors.rater_bag.shape[1]
    total, level = np.zeros((products, width)), np.zeros((products, width))
    raters = np.zeros(products, np.int64)
    for reviews, sign in changes:
        begin, end = np.searchsorted(reviews.product, [rows.start, rows.stop]).tolist()
        for start in range(begin, end, AT_ONCE):
            part = reviews.take(np.s_[start : min(start + AT_ONCE, end)])
            bag = vectors.rater_bag[part.customer].astype(np.float32)
            residual = vectors.rater_residual[part.customer].astype(np.float32)
            says = bag.any(axis=1)
            rated = ~np.isnan(part.stars)
            beyond = np.where(
                rated, part.stars - (vectors.head.mean or 0.0) - vectors.rating_query[part.customer, -2], 0
            )
            first, last = int(part.product[0]), int(part.product[-1])
            lists = Lists(offsets_of(np.bincount(part.product - first)), part.product)
            here = np.s_[first - rows.start : last + 1 - rows.start]
            total[here] += sign * sums(bag + beyond[:, None].astype(np.float32) * residual, lists)
            level[here] += sign * sums(residual * rated[:, None], lists)
            raters[here] += sign * np.bincount(part.product - first, says).astype(np.int64)
    return total, level.astype(np.float32), raters


def popular(vectors: Vectors, info: RunInfo, fitted: Fitted, retrieval: Floats, fresh: Array) -> dict[str, Array]:
    """Bring the b of products, the last column of `retrieval`, to the popularity as of the new end of the data.

    What training learned beside popularity stays; a product without reviews until now has the mean of it. Returns the
    fields of Vectors that say what periods add.
    """
    size, old = len(retrieval), len(vectors.product_ids)
    learned = vectors.retrieval_candidate[:, -1] - popularity(info, *of_run(vectors), old).log_share_now
    now = popularity(info, fitted.lists.items, fitted.time, size)
    counts = np.asarray(vectors.product_counts, np.float64)
    mean = np.average(learned, weights=counts) if counts.any() else 0.0
    learned = np.where(fresh, mean, np.concatenate([learned, np.full(size - old, mean)]))
    retrieval[:, -1] = now.log_share_now + learned
    if not len(now.edges):
        return {}
    found: dict[str, Array] = {"context": now.beyond_now(np.arange(size, dtype=np.int32)), "context_edges": now.edges}
    if vectors.rating_context is not None and vectors.context_edges is not None:
        ends = np.append(now.edges, np.iinfo(np.int64).max) - 1
        found["rating_context"] = vectors.rating_context[period_of(vectors.context_edges, ends)]
    return found


def of_run(vectors: Vectors) -> tuple[Rows, Ints]:
    """Return the products [n] and the times [n] of the fitted reviews of a run."""
    fitted = np.isin(vectors.seen_part, vectors.head.fit_tags)
    found = vectors.seen_product[fitted], times_of(vectors)[fitted]
    for column in (vectors.seen_product, vectors.seen_time):
        if column is not None:
            give_back(column)
    return found


def popularity(info: RunInfo, product: Rows, time: Ints, size: int) -> Popularity:
    """Fit the popularity that retrieval starts from, as the run's training chose it, to reviews [n]."""
    found = Popularity.of(product, time, size, info.half_life)
    if info.all_time_now:
        of_all_time = Popularity.of_all_time(product, size)
        found = dataclasses.replace(found, log_share_now=of_all_time.log_share_now)
    return found


def feature_arrays(vectors: Vectors, features: list[list[str]]) -> dict[str, object]:
    """Return the fields of Vectors that list features, with those of the new products; none where nothing has any."""
    if vectors.features is None and not any(features):
        return {}
    known, lists = vectors.features or Strings.of([]), vectors.features_of_products
    number = {known[row]: row for row in range(len(known))}
    items = [number.setdefault(feature, len(number)) for listed in features for feature in listed]
    more = pa.array(list(number)[len(known) :], pa.large_binary())
    lengths = np.concatenate([lists.lengths, [len(listed) for listed in features]]).astype(np.int64)
    return {
        "features": known.grown(more),
        "feature_offsets": offsets_of(lengths),
        "feature_items": np.concatenate([lists.items, np.array(items, np.int32)]).astype(np.int32),
    }
