"""From a model in training to plain arrays: what each task has learned, and both put together as a run's vectors."""

from __future__ import annotations

import dataclasses
import struct
import zipfile
from pathlib import Path
from typing import Any, Self

import numpy as np

from amzrec.arrays import Array, Doubles, Floats, Ints, Rows
from amzrec.errors import AmzrecError
from amzrec.features.profiles import Profiles
from amzrec.model.head import BiasedHead, PlainHead
from amzrec.model.towers import HistoryTower
from amzrec.store.memory import Memory
from amzrec.store.vectors import Layers, check_learned
from amzrec.training.coldstart import vectors_from_attributes
from amzrec.training.learner import Learner

MAPPED = 1 << 24  # bytes of an array from which it is not read whole
SUMMED = 1 << 24  # numbers of residual vectors that are added up at a time


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """Arrays that are kept in one .npz file: of C customers and N products, and of row 0 of both, the unknown ones.

    There are Dr retrieval dimensions and K rating dimensions, and T periods of time.
    """

    def save(self, file: Path) -> None:
        """Write the arrays; raises AmzrecError where a number of them is none."""
        arrays: dict[str, Any] = {name: np.asarray(value) for name, value in vars(self).items()}
        for name, array in arrays.items():
            if name != "mean":  # of stars, where there are none
                check_learned(name, array)
        np.savez(file, **arrays)

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read the arrays that `save` wrote, large ones mapped; raises AmzrecError where the file is damaged."""
        try:
            arrays = mapped(file)
            return cls(**{field.name: arrays[field.name] for field in dataclasses.fields(cls)})
        except OSError:
            raise
        except Exception as error:  # of zip files, of headers that are read as Python
            raise AmzrecError(
                f"the unfinished training in {file.parent} cannot be read ({file.name}: {error}): begin again with "
                "--overwrite"
            ) from error


@dataclasses.dataclass(frozen=True)
class HistoryTables(Snapshot):
    """What the vector of a customer is made of, in the d dimensions that a task reads.

    From these tables a customer's vector can be made anew when reviews are added to its history (fold-in).
    """

    query_base: Floats  # [C + 1, d] the vectors without their histories
    history_bag: Floats  # [N + 1, d] what a review of a product adds to the history of a customer
    history_residual: Floats  # [N + 1, d] what it adds for each star beyond the biases
    rater_bag: Array  # [C + 1, d] float16, what a review of a customer adds to the history of a product
    rater_residual: Array  # [C + 1, d] float16, what it adds for each star beyond the biases
    product_base: Floats  # [N + 1, d] the vectors of products without their histories
    product_level: Floats  # [N + 1, d] the sums of rater_residual over the reviews with stars of each history


@dataclasses.dataclass(frozen=True)
class RetrievalSnapshot(HistoryTables):
    """What retrieval has learned: the inner product of a query and a candidate is their score."""

    queries: Floats  # [C + 1, Dr + 1], the last column is 1
    candidates: Floats  # [N + 1, Dr + 1], the last column is the popularity of the product as of now
    candidate_rows: Rows  # [M] product rows that may be recommended
    context: Floats  # [T, N + 1] what the period of a query adds to the scores as of now
    edges: Ints  # [T - 1] unix seconds where the periods 1.. begin
    temperature: Array  # scalar by which the queries are divided already
    recent_weights: Floats  # [L] what a product weighs by how many came after it; empty where no order is read
    product_counts: Ints  # [N + 1] fitted reviews of each product
    customer_counts: Ints  # [C + 1] fitted reviews of each customer


@dataclasses.dataclass(frozen=True)
class RatingSnapshot(HistoryTables):
    """What the rating has learned, in stars instead of model units."""

    queries: Floats  # [C + 1, K + 2] the rating dimensions, the shrunk bias, what is added to the stars
    candidates: Floats  # [N + 1, K + 2] the rating dimensions, the shrunk bias, what is added to the stars
    weight: Floats  # [K] of each dimension in the product of a query and a candidate
    context: Floats  # [T] what the period of a query adds to the stars, 0 in the last one
    product_bias: Floats  # [N + 1] shrunk mean of stars − mean, which residuals are taken against
    product_raters: Ints  # [N + 1] reviews in the history of each product
    shapes: Ints  # [L, 2] inputs and outputs of each layer of the MLP
    layers: Floats  # the values of all layers in one flat array: the kernel and the bias of each in turn
    mean: Doubles  # scalar: mean stars of the fitted reviews, NaN without any
    customer_weight: Doubles  # scalar: weight of a customer's shrunk bias in what is added to the stars
    product_weight: Doubles  # scalar: weight of a product's shrunk bias in what is added to the stars


def mapped(file: Path) -> dict[str, Array]:
    """Open the arrays of an .npz file that is not compressed, those of MAPPED bytes and more memory-mapped.

    Checksums are compared. Raises OSError, ValueError or BadZipFile where the file is not what np.savez writes.
    """
    found: dict[str, Array] = {}
    with zipfile.ZipFile(file) as archive, file.open("rb") as raw:
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            with archive.open(info) as member:
                if info.file_size < MAPPED or info.compress_type != zipfile.ZIP_STORED:
                    found[name] = np.lib.format.read_array(member, allow_pickle=False)
                    continue
                np.lib.format.read_magic(member)
                shape, by_column, kind = np.lib.format.read_array_header_1_0(member)
                header = member.tell()
                while member.read(MAPPED):  # which compares the checksum at the end
                    pass
            raw.seek(info.header_offset + 26)  # of the names in front of the member: their lengths, then themselves
            names = sum(struct.unpack("<HH", raw.read(4)))
            begin = info.header_offset + 30 + names + header
            found[name] = np.memmap(file, kind, "r", begin, shape, "F" if by_column else "C")
    return found


def retrieval_snapshot(learner: Learner) -> RetrievalSnapshot:
    """Take the arrays from which retrieval would be answered now, with the averaged weights."""
    fitted, dims = learner.fitted, slice(learner.recipe.retrieval_dims)
    with learner.averaged():
        customers, products = all_rows(learner)
        queries, candidates = learner.retrieval_vectors(
            learner.retrieval_queries(customers), learner.retrieval_candidates(products), products
        )
        return RetrievalSnapshot(
            **history_tables(learner, dims)
            | {"query_base": learner.retrieval_bases(customers), "history_bag": learner.model.encoder.retrieval_bags}
            | retrieval_raters(learner, products),
            queries=queries,
            candidates=with_cold_products(learner, candidates, np.zeros_like(candidates)),
            candidate_rows=fitted.candidates,
            context=learner.context(products),
            edges=fitted.popularity.edges,
            temperature=np.exp(learner.model.retrieval.log_temperature.numpy()),
            recent_weights=learner.model.encoder.recent_weights,
            product_counts=fitted.products.counts,
            customer_counts=fitted.customers.counts,
        )


def rating_snapshot(learner: Learner) -> RatingSnapshot:
    """Take the arrays from which stars would be predicted now, with the averaged weights, in stars."""
    fitted, unit, dims = learner.fitted, learner.fitted.scale.unit, slice(learner.recipe.rating_start, None)
    with learner.averaged():
        customers, products = all_rows(learner)
        head, encoder = learner.model.rating_head, learner.model.encoder
        q, c = encoder.query_tower, encoder.candidate_tower
        shares = np.array(head.shares, np.float32)
        weights, layers = head_in_stars(head, learner.recipe.width - learner.recipe.rating_start, unit)
        sides = []
        for tower, rows, vectors, scale in (
            (q, customers, learner.queries(customers, dims), weights[0]),
            (c, products, learner.candidates(products, dims), weights[1]),
        ):
            bias = tower.shrunk_bias(rows).numpy() * unit
            additive = scale * bias + (tower.learned_offset(rows).numpy() @ shares) * unit
            sides.append(np.concatenate([vectors, bias[:, None], additive[:, None]], axis=1))
        sides[1][:, -1] += fitted.trend[-1] * unit  # as of the last period; `context` is the difference of the others
        known = np.zeros_like(sides[1])
        if isinstance(c, HistoryTower):  # what attributes add to the stars has been learned for cold products too
            known[:, -1] = (c.offset_of_attributes(products).numpy() @ shares) * unit
        return RatingSnapshot(
            **history_tables(learner, dims),
            queries=sides[0],
            candidates=with_cold_products(learner, sides[1], known),
            weight=weights[2],
            context=(fitted.trend - fitted.trend[-1]) * unit,
            product_bias=fitted.products.biases.all * unit,
            product_raters=fitted.products.histories.partners.lengths,
            shapes=np.array([kernel.shape for kernel, _ in layers], np.int64).reshape(-1, 2),
            layers=np.concatenate([part.ravel() for layer in layers for part in layer] or [np.zeros(0, np.float32)]),
            mean=np.array(fitted.scale.mean if fitted.rated.any() else np.nan),
            customer_weight=np.array(weights[0], np.float64),
            product_weight=np.array(weights[1], np.float64),
        )


def all_rows(learner: Learner) -> tuple[Rows, Rows]:
    """Return the rows of all customers [C + 1] and of all products [N + 1], row 0, the unknown one, included."""
    sides = learner.fitted.customers, learner.fitted.products
    customers, products = (np.arange(len(side), dtype=np.int32) for side in sides)
    return customers, products


def history_tables(learner: Learner, dims: slice) -> dict[str, Array]:
    """Return the fields of HistoryTables in the dimensions `dims`; a product without reviews adds nothing."""
    customers, products = all_rows(learner)
    encoder, fitted = learner.model.encoder, learner.fitted
    q, c, unit = encoder.query_tower, encoder.candidate_tower, fitted.scale.unit
    rater_bag, rater_residual = history_rows(q, fitted.customers, dims)
    rater_residual /= unit
    level = levels(fitted.products, rater_residual)
    raters = [each.astype(np.float16) for each in (rater_bag, rater_residual)]
    del rater_bag, rater_residual  # twice as large, before the next ones are made
    history_bag, history_residual = history_rows(c, fitted.products, dims)
    return {
        "rater_bag": raters[0],
        "rater_residual": raters[1],
        "product_level": level,
        "history_bag": history_bag,
        "history_residual": history_residual / unit,
        "query_base": learner.query_bases(customers, dims),
        "product_base": learner.candidate_bases(products, dims),
    }


def history_rows(tower: Any, side: Profiles, dims: slice) -> list[Floats]:
    """Return for each row of a side [R + 1] what a review of it adds to a history: bag and residual, in model units."""
    read = isinstance(tower, HistoryTower)
    tables = (tower.bag, tower.residual) if read else (tower.embedding,) * 2
    found = [table.numpy()[:, dims][side.vector_row] for table in tables]
    for rows in found:
        rows[side.counts == 0 if read else slice(None)] = 0
    return found


def levels(side: Profiles, residual: Floats) -> Floats:
    """Sum over the reviews with stars of each history [R + 1] the residual vectors [C + 1, d] of its partners."""
    lists, rated = side.histories.partners, side.histories.rated
    total = np.zeros((len(side), residual.shape[1]), np.float32)
    step = max(1, SUMMED // max(residual.shape[1], 1))
    for start in range(0, len(lists.items), step):  # a list may be cut: its parts add up
        part = slice(start, start + step)
        owner = np.searchsorted(lists.offsets, np.arange(start, min(start + step, len(lists.items))), side="right") - 1
        first = np.flatnonzero(np.diff(owner, prepend=-1))
        total[owner[first]] += np.add.reduceat(residual[lists.items[part]] * rated[part, None], first, axis=0)
    return total


def retrieval_raters(learner: Learner, products: Rows) -> dict[str, Array]:
    """Return those fields of HistoryTables that differ where retrieval reads no raters (--history recent, sequence)."""
    if not learner.recipe.reads_order:
        return {}
    dims = learner.recipe.retrieval_dims
    nobody = np.zeros((len(learner.fitted.customers), dims), np.float16)
    bases = learner.retrieval_candidates(products)
    return {
        "rater_bag": nobody,
        "rater_residual": nobody,
        "product_base": bases,
        "product_level": np.zeros_like(bases),
    }


def with_cold_products(learner: Learner, vectors: Floats, known: Floats) -> Floats:
    """Return vectors [N + 1, d] in which candidates without reviews (`--catalogue all`) have what their attributes say.

    `known` [N + 1, d] is the part of the vectors that is right for products without reviews as well.
    """
    side = learner.fitted.products
    cold = learner.fitted.candidates[side.counts[learner.fitted.candidates] == 0]
    if not len(cold) or learner.recipe.features == "ids":
        return vectors
    vectors = vectors.copy()
    vectors[cold] = (known + vectors_from_attributes(side, vectors - known, learner.recipe.l2_rare))[cold]
    return vectors


def head_in_stars(head: BiasedHead | PlainHead, width: int, unit: float) -> tuple[tuple[float, float, Floats], Layers]:
    """Turn a rating head into the form that answers read: (bias weights, weight of each dimension), layers of the MLP.

    The MLP reads [x, bias of x, y, bias of y, x · y], where x and y have `width` dimensions and the biases are in
    stars; it answers in stars. `unit` is the stars of a model unit.
    """
    layers = [(layer.masked.numpy(), layer.bias.numpy()) for layer in head.mlp]
    biased, shares = isinstance(head, BiasedHead), np.array(head.shares, np.float32)
    if layers:
        kernel, bias = layers[0]
        if biased:
            kernel = kernel.copy()
            kernel[[width, 2 * width + 1]] /= unit
        else:  # the plain head reads [x, y]: the rows of the kernel for all other inputs are zero
            narrow, kernel = kernel, np.zeros((3 * width + 2, kernel.shape[1]), np.float32)
            kernel[:width], kernel[width + 1 : 2 * width + 1] = narrow[:width], narrow[width:]
        layers[0] = (kernel, bias)
        layers[-1] = tuple(part @ (shares[:, None] * unit) for part in layers[-1])  # one output for all heads
    if not biased:
        return (0.0, 0.0, np.zeros(width, np.float32)), layers
    customer, product = shares @ head.scale.numpy().reshape(-1, 2)
    return (float(customer), float(product), head.weight.numpy() * (unit * shares[head.of_head])), layers


@dataclasses.dataclass(frozen=True)
class MemorySnapshot(Snapshot):
    """A memory of pairs, as the arrays of store.memory.Memory."""

    offsets: Ints  # [N + 2]
    items: Rows
    weights: Floats
    fade: Array  # scalar
    last: Array  # scalar
    per_log: Array  # scalar

    @classmethod
    def of(cls, memory: Memory) -> MemorySnapshot:
        """Take the arrays of a memory."""
        lists = memory.neighbours
        numbers = (np.array(number) for number in (memory.fade, memory.last, memory.per_log))
        return cls(lists.offsets, lists.items, memory.weights, *numbers)
