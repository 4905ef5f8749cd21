"""The tables of a run in a new model: old rows keep their weights, new ones start from what is said of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from amzrec.arrays import Array, Bools, Doubles, Floats, Ints, Rows
from amzrec.errors import AmzrecError
from amzrec.features.attributes import attribute_names
from amzrec.features.profiles import Profiles
from amzrec.features.ridge import mean_of, worth_of
from amzrec.model.towers import HistoryTower, IdTower
from amzrec.store.weights import SIDES
from amzrec.training.learner import Learner, in_blocks
from amzrec.training.start import Start
from amzrec.training.weights import ALL, ATTRIBUTES, OWN, Part, flat, owners, parts_of

RIDGE = 30.0  # reviews' worth of belief that a new row is like the mean of all
MOST = 100_000  # rows that tell what histories and attributes say of a row


def start_at(learner: Learner, start: Start) -> None:
    """Give an untrained model the tables of a run, with the slots of the optimizer.

    A row of a customer, a product or an attribute that the run has keeps its weights and slots, wherever it stands now.
    What a new row holds is what the histories and attributes of the others say about theirs, by a ridge regression;
    where there are none it is the mean. Its slots are as before the first step. New attributes start as usual.
    Raises AmzrecError where the tables do not fit the model.
    """
    learner.optimizer.iterations.assign(start.weights.index.steps)
    parts = parts_of(learner.model)
    places = {
        key: place
        for key in {(part.rows, part.side) for part in parts}
        if (place := places_of(learner, start, *key)) is not None
    }
    for part in parts:
        copy(learner, start, part, places.get((part.rows, part.side)))
    for rows, side in sorted(places):
        grown = [part for part in parts if (part.rows, part.side) == (rows, side)]
        if rows != ATTRIBUTES and (places[rows, side] < 0).any():
            foretell(learner, grown, rows, side, places[rows, side] < 0)


def places_of(learner: Learner, start: Start, rows: str, side: str) -> Ints | None:
    """Return where the rows [V] of a table stood in the run's table, -1 for new ones; None for a table without rows."""
    if not rows:
        return None
    trained, of_run = start.weights.trained, start.customer_rows if side == SIDES[0] else start.product_rows
    profiles = profiles_of(learner, side)
    if rows == ATTRIBUTES:
        table = start.dataset.customers if side == SIDES[0] else start.dataset.products
        names = pa.array([name.encode() for name in attribute_names(table)], pa.large_binary())
        return trained.attributes[side].rows_of(names) if len(names) else np.full(1, -1)
    place = np.full(int(max(of_run.max(initial=0), trained.rows[side].max(initial=0))) + 1, -1)
    if rows == ALL:
        size = len(start.weights.array("popularity") if "popularity" in start.weights else start.weights.array("asked"))
        place[: min(size, len(place))] = np.arange(min(size, len(place)))
        return np.where(of_run < 0, -1, place[of_run])
    place[trained.rows[side]] = np.arange(len(trained.rows[side]))
    mine = of_run[owners(profiles.vector_row)]
    return np.where(mine < 0, -1, place[mine])


def profiles_of(learner: Learner, side: str) -> Profiles:
    """Return the profiles of a side."""
    return learner.fitted.customers if side == SIDES[0] else learner.fitted.products


def copy(learner: Learner, start: Start, part: Part, place: Ints | None) -> None:
    """Copy a table and its slots from a run; a new row, but of an attribute, is the mean of the others."""
    if part.name not in start.weights:
        raise misfit(start, part.name, "is not among them")
    old, new = start.weights.table(part.name), np.array(part.variable.numpy())
    slots = dict(learner.optimizer.slots(part.variable))
    if set(slots) - {"gap"} - set(old.slots):
        raise misfit(start, part.name, "has no slots of this optimizer")
    if new.shape[0 if place is None else 1 :] != old.weight.shape[0 if place is None else 1 :]:
        raise misfit(start, part.name, f"has the shape {list(old.weight.shape)}, not {list(new.shape)}")
    if place is None:
        new[...], slots = old.weight, {name: old.slots.get(name, values) for name, values in slots.items()}
    else:
        known = place >= 0
        new[known] = old.weight[place[known]]
        if part.rows != ATTRIBUTES and known[1:].any():
            new[~known] = new[1:][known[1:]].mean(axis=0)
        for name, values in slots.items():
            if name in old.slots:
                values[known] = old.slots[name][place[known]]
    part.variable.assign(new)
    learner.optimizer.put_slots(part.variable, slots)


def misfit(start: Start, name: str, why: str) -> AmzrecError:
    """Make the error for weights that are not those of the model."""
    return AmzrecError(
        f"the weights of the run {start.run.path} do not fit its settings: {name} {why}. Start from another run, or "
        "train from scratch, without --from"
    )


def foretell(learner: Learner, parts: list[Part], rows: str, side: str, new: Bools) -> None:
    """Set the `new` rows [V] of tables to what histories and attributes say of them, as those of the others show it."""
    profiles, encoder = profiles_of(learner, side), learner.model.encoder
    towers = encoder.query_tower, encoder.candidate_tower
    tower, partner = towers if side == SIDES[0] else towers[::-1]
    if not isinstance(tower, HistoryTower):
        return
    whose = owners(profiles.vector_row) if rows == OWN else np.arange(len(profiles), dtype=np.int32)
    counts = profiles.counts[whose]
    known = np.flatnonzero(~new & (counts > 0))
    if len(known) > MOST:
        known = known[np.argsort(-counts[known], kind="stable")[:MOST]]
    if not len(known):
        return
    fresh = np.flatnonzero(new)
    says, asked = (said(tower, partner, whose[each], learner.recipe.width) for each in (known, fresh))
    tables = [flat(part.variable.numpy()) for part in parts]
    learned = np.concatenate([table[known] for table in tables], axis=1)
    found = regressed(says, asked, learned, worth_of(counts[known], RIDGE))
    for part, values in zip(parts, columns_of(found, tables), strict=True):
        table = part.variable.numpy()
        table[fresh] = values.reshape(len(fresh), *table.shape[1:])
        part.variable.assign(table)


def said(tower: HistoryTower, partner: IdTower, rows: Rows, width: int) -> Floats:
    """Return what histories and attributes say of rows [n]: their vectors [n, D] without the embeddings."""
    return in_blocks(
        lambda some: tower.vectors(some, partner) - tower.ids(tower.profiles.vector_row[some]), rows, width
    )


def columns_of(table: Floats, like: list[Floats]) -> Iterator[Array]:
    """Cut the columns of a table into tables as wide as others are."""
    start = 0
    for other in like:
        yield table[:, start : start + other.shape[1]]
        start += other.shape[1]


def regressed(x: Floats, asked: Floats, table: Floats, worth: Floats) -> Floats:
    """Return what rows are [m, w] of which `asked` [m, D] is said, as rows [n, w] of which `x` [n, D] is said show it.

    A ridge regression around the means in which a row weighs its `worth` [n]; the ridge is RIDGE reviews in units in
    which x varies by 1.
    """
    mean_x, mean = mean_of(x, worth), mean_of(table, worth)
    around = (x - mean_x).astype(np.float64)
    gram = (around * worth[:, None]).T @ around
    scale = np.trace(gram) / max(float(worth.sum()) * len(gram), 1e-30)
    if scale <= 0:
        return np.tile(mean, (len(asked), 1))
    target = (around * worth[:, None]).T @ (table - mean)
    weights: Doubles = np.linalg.solve(gram + RIDGE * scale * np.eye(len(gram)), target)
    found: Floats = (mean + (asked - mean_x) @ weights).astype(np.float32)
    return found
