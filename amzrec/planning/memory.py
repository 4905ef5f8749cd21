"""How much memory each stage takes: what is counted, times what it was measured to take on Linux (LOG.md)."""

from __future__ import annotations

from typing import NamedTuple

from amzrec.config import Recipe
from amzrec.features.company import CLOSED_FORM
from amzrec.features.memory import LAST, neighbours
from amzrec.features.popularity import KERNEL_HALF_LIVES
from amzrec.planning.parameters import parameters_of
from amzrec.planning.sizes import Phase, Sizes, StepSizes, step_sizes

MB = 1 << 20
FLOAT = 4
READ = 131_072  # reviews of histories that are read at a time where vectors are computed (training/learner.py)
PYTHON, TENSORFLOW = 110 * MB, 760 * MB  # of a process that answers, and of one that trains, before it reads anything
PREPARING, PREPARED_ROW = 330 * MB, 120  # of the engine, and of each row that is read
REVIEW = 20  # of a review as it is read: two rows, stars, time
FITTED = 78  # of a fitted review: what is known of it, and its place in both histories
ARRANGED = 60  # of a fitted review while histories are arranged
ROW = 48  # of a customer or product: counts, biases, where its history begins
COPIES = 1.5  # of the tables of a step: read, put together, and their gradients
UPDATED = 2.0  # of the rows that an optimiser updates: gradients, and summed by row
ENTRY = 240  # of a review of a history: in steps that wait, and as a sparse matrix
JUDGED = 1000  # of a review of a history that is read for valid, of at most so many at a time
LOGITS = 4096 * 3  # of a candidate: blocks of logits, so many queries at a time
PAIR = 6 * 8  # of two products while all pairs are solved for: the matrix, its inverse, and what is sorted of it
VOTE = 20  # of a customer of valid and a product that is voted for, which is nearly any: lists, one copy, their scale
VOTED = 80  # of a customer of valid and a product that one of its last ones votes for, where order is remembered
HEAP = 1.9  # bytes of the heap for each byte of a step: it is in pieces
SNAPSHOT = 0.55  # of the vectors of a run while those of one task are made
AVERAGED = 65_536  # rows of a table from which its weights are put aside (model/optimizer.py)
JUDGES = 20_000  # most valid reviews that choose, each of one customer at most (training/watch.py)
SIDES = "customers", "products"


class Memory(NamedTuple):
    """Bytes of each stage at its peak."""

    preparing: int
    training: int
    answering: int  # of `recommend`, without what is mapped from files
    serving: int
    run: int  # bytes of the vectors of the run on disk


def memory_of(sizes: Sizes, recipe: Recipe) -> Memory:
    """Return what each stage takes for data of these sizes."""
    run = run_bytes(sizes, recipe)
    everyone, products = sizes.largest.customers, sizes.largest.products
    names = everyone.table + products.table
    return Memory(
        preparing=int(PREPARING + PREPARED_ROW * sum(sizes.parts.values()) + names),
        training=int(max(training(sizes, recipe, phase) for phase in sizes.phases.values())),
        answering=int(PYTHON + 2 * FLOAT * recipe.retrieval_dims * min(products.rows, 100_000)),
        serving=int(2 * PYTHON + run),
        run=run,
    )


def training(sizes: Sizes, recipe: Recipe, phase: Phase) -> float:
    """Return the most bytes that a phase takes: what it holds all along, and the largest of what comes and goes.

    That is a step; judging, which needs averages of weights; making what is kept of a task; and choosing a memory.
    """
    parameters = parameters_of(phase, recipe)
    learned = FLOAT * sum(parameters.values())
    slots = 1 if recipe.optimizer == "adagrad" else 3 if recipe.average else 2
    judged = JUDGED * min(int(phase.products.counts.sum()), READ) * (recipe.features != "ids")
    held = TENSORFLOW + data(sizes, phase) + learned * (1 + slots)
    aside = [parameters[name] for name in SIDES if getattr(phase, name).own > AVERAGED]  # in a file meanwhile
    averaged = (learned - FLOAT * sum(aside)) * (slots > 2)
    pairs = choosing_pairs(sizes) if recipe.memory and recipe.retrieval_weight > 0 else 0
    goes = (
        HEAP * step_bytes(step_sizes(sizes, phase, recipe), phase, recipe),
        averaged + judged,
        averaged + SNAPSHOT * run_bytes(sizes, recipe),
        pairs,
    )
    return max(held + max(goes), TENSORFLOW + data(sizes, phase) + arranging(sizes, phase))


def choosing_pairs(sizes: Sizes) -> float:
    """Return the bytes that are taken while valid chooses a memory of pairs, after the last epoch."""
    products, judged = sizes.candidates, min(sizes.judged, JUDGES)
    followed = VOTED * judged * min(LAST * neighbours(products), products) if sizes.dated else 0
    if products > CLOSED_FORM or not judged:
        return float(followed)
    return float(max(PAIR * products**2 + VOTE * judged * products, followed))


def data(sizes: Sizes, phase: Phase) -> float:
    """Return the bytes of the reviews, of what is known of them, and of the tables of a dataset."""
    read = REVIEW * (sizes.parts["train"] + sizes.parts["valid"])
    rows = phase.customers.rows + phase.products.rows
    context = 2 * FLOAT * sizes.periods * phase.products.rows
    return read + FITTED * phase.reviews + ROW * rows + context + phase.customers.table + phase.products.table


def arranging(sizes: Sizes, phase: Phase) -> float:
    """Return the bytes that are taken while histories and popularity over time are arranged."""
    tables = (len(KERNEL_HALF_LIVES) * FLOAT + 24) * sizes.periods * phase.products.rows if sizes.dated else 0
    return float(ARRANGED * phase.reviews + tables)


def step_bytes(step: StepSizes, phase: Phase, recipe: Recipe) -> float:
    """Return the bytes that a step takes beside what is learned."""
    u, p, width = step.customers, step.products, FLOAT * recipe.width
    logits = LOGITS * step.candidates if recipe.retrieval_weight > 0 else 0
    if recipe.features == "ids":
        return float(width * (COPIES + UPDATED) * (u + p) + logits)
    partners = sum(step.partners)
    tables = 5 * u + 2 * p + 3 * p + 2 * u + 2 * partners
    updated = u + p + 2 * (u + p + partners)
    return width * (COPIES * tables + UPDATED * updated) + ENTRY * sum(step.entries) + logits


def run_bytes(sizes: Sizes, recipe: Recipe) -> int:
    """Return the bytes of the vectors of a run, which are what is on disk and what serving maps."""
    phase, dims, rated = sizes.largest, recipe.retrieval_dims, recipe.width - recipe.rating_start
    both = dims + rated
    customer = FLOAT * (dims + 1 + rated + 2 + both) + 8 + 8
    product = FLOAT * (dims + 1 + rated + 2 + 2 * both + 1) + 8 + 4
    if recipe.features != "ids":
        customer += 2 * 2 * both
        product += FLOAT * 2 * both + 8
    product += FLOAT * sizes.periods * (sizes.periods > 1)
    seen = (4 + 4 + 1 + 8 * sizes.dated) * sum(sizes.parts.values())
    names = phase.customers.table + phase.products.table
    return phase.customers.rows * customer + phase.products.rows * product + seen + names
