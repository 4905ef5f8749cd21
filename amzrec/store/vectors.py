"""What a training learned as plain arrays, each a file of `vectors/`: written whole, opened memory-mapped."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import zlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args, get_type_hints

import numpy as np

from amzrec import heap
from amzrec.arrays import Array, Floats, Ints, Lists, Rows, give_back
from amzrec.errors import AmzrecError
from amzrec.store.attention import Attention
from amzrec.store.documents import Document
from amzrec.store.manifest import Manifest, damaged, read_manifest
from amzrec.store.memory import Memory
from amzrec.store.moment import Moment
from amzrec.store.ownership import RUN_FOLDER
from amzrec.store.remembered import Files
from amzrec.store.strings import Strings
from amzrec.store.structure import check_shapes, check_values

VECTORS = "vectors"
INDEX = "vectors.json"
STRINGS = ("customer_ids", "product_ids", "titles", "features")  # the last one only where products have features
REMEDY = "train again, or name another run with --run"
TRIES = 5  # to read a header

Layers = list[tuple[Array, Array]]
Put = Callable[[str, Array], Array]  # what is done with a large array, by its name, as soon as it is made


def as_made(name: str, array: Array) -> Array:
    """Keep an array as it is: what a Put does that puts nothing away."""
    return array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Head:
    """The numbers beside the arrays that scores, stars and fold-in are computed with."""

    RENAMED: ClassVar[dict[str, str]] = {
        "a_customer": "bias_weight",
        "shrink_customer": "bias_shrinkage",
        "fit_parts": "fit_tags",
    }

    mean: float | None  # mean stars of the fitted rows; None where no row has stars
    low: float = 1.0  # ends of the scale of stars
    high: float = 5.0
    bias_weight: float = 0.0  # weight of a customer's shrunk bias in the additive term of rating_query
    bias_shrinkage: float = 10.0  # reviews of the mean that a customer's bias is shrunk by
    product_bias_weight: float | None = None  # weight of a product's shrunk bias in its additive term; None: not kept
    temperature: float = 1.0  # that retrieval scores are divided by
    retrieval_dims: int  # dimensions 0 .. retrieval_dims of a tower's vector retrieve
    rating_start: int  # dimensions rating_start .. D rate
    history: str = "bag"  # how a customer's history is read: bag, recent, or sequence
    memory_fade: float = 1.0  # what a product's votes are worth per product that came after it in the history
    memory_last: int = 0  # products of a history that vote, the latest; 0: all
    memory_per_log: float = 0.0  # scores per e-fold of 1 + the sum of votes; 0: the sum is the score
    moment: Moment | None = None  # how what a customer gave near a query's time moves the stars; None: not at all
    fit_tags: tuple[int, ...] = (0, 1)  # the values of seen_part that the model was fitted on


@dataclasses.dataclass(frozen=True)
class Stored:
    """The type and the number of dimensions of an array that is a file of `vectors/`."""

    dtype: str
    rank: int


Table = Annotated[Floats, Stored("float32", 2)]
Column = Annotated[Floats, Stored("float32", 1)]
Numbers = Annotated[Ints, Stored("int64", 1)]
RowNumbers = Annotated[Rows, Stored("int32", 1)]
Tags = Annotated[Array, Stored("uint8", 1)]
HalfTable = Annotated[Array, Stored("float16", 2)]
Blocks = Annotated[Floats, Stored("float32", 3)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vectors:
    """All that a training learned: what every answer is computed from.

    C customers, N products, D tower width, Dr retrieval dimensions, K rating dimensions, S kept reviews, T periods;
    row 0 is the unknown customer or product.
    retrieval score(c, p) = retrieval_query[c] · retrieval_candidate[p] + context[period, p] + what c's history votes
    stars(c, p) = clip(mean + q[K+1] + v[K+1] + Σ rating_weight · q[:K] · v[:K] + MLP, low, high), where q is the row of
    rating_query and v that of rating_candidate. The MLP reads concat(q[:K+1], v[:K+1], q[:K] · v[:K]).
    """

    retrieval_query: Table  # [C+1, Dr+1] divided by the temperature, last column 1
    retrieval_candidate: Table  # [N+1, Dr+1] last column b, which starts at log popularity
    rating_query: Table  # [C+1, K+2] K dimensions, the shrunk bias, the additive term
    rating_candidate: Table  # [N+1, K+2] K dimensions, the shrunk bias, the additive term
    rating_weight: Column  # [K]
    query_base: Table  # [C+1, D] the customer's vector before the history is added
    history_bag: Table  # [N+1, D] what a product adds to the history of a customer
    history_residual: Table  # [N+1, D] what it adds per star of residual
    product_bias: Column  # [N+1] shrunk mean of stars - mean, which residuals are taken against
    product_counts: Numbers  # [N+1] reviews in the fitted rows
    customer_counts: Numbers  # [C+1] reviews in the fitted rows
    candidates: RowNumbers  # [M] rows of the products that may be recommended, ascending
    seen_offsets: Numbers  # [C+2] see `seen`
    seen_product: RowNumbers  # [S]
    seen_stars: Column  # [S] NaN where the source gave none
    seen_part: Tags  # [S] 0 train, 1 valid, 2 test
    # where dates tell what is popular, or liked, when
    context: Table | None = None  # [T, N+1] what a period adds to the scores as of now
    rating_context: Column | None = None  # [T] what a period adds to the stars; last: 0
    context_edges: Numbers | None = None  # [T-1] unix seconds at which periods 1.. begin
    # where pairs of products are remembered beside the vectors
    memory_offsets: Numbers | None = None  # [N+2] see `memory`
    memory_items: RowNumbers | None = None  # product rows that each product votes for
    memory_weights: Column | None = None  # how strongly, in retrieval scores
    # where reviews have times
    seen_time: Numbers | None = None  # [S] unix seconds, NO_TIME for none
    # where retrieval reads the last products alone
    recent_weights: Column | None = None  # [L] what a product weighs by how many came after it
    # where retrieval reads the last products through attention: the arrays of store.attention.Attention; it reads the
    # last d retrieval dimensions of history_bag, and what it reads are the last d of a query
    attention_within: Blocks | None = None  # [B, d, 3 d]
    attention_near: Blocks | None = None  # [B, H, L]
    attention_out: Blocks | None = None  # [B, d, d]
    attention_wide: Blocks | None = None  # [B, d, F]
    attention_wide_bias: Table | None = None  # [B, F]
    attention_narrow: Blocks | None = None  # [B, F, d]
    attention_narrow_bias: Table | None = None  # [B, d]
    attention_norms: Blocks | None = None  # [2 B + 1, 2, d]
    # where products have features
    feature_offsets: Numbers | None = None  # [N+2] see `features_of_products`
    feature_items: RowNumbers | None = None  # rows of `features`
    # what `update` reads: the vector of product p is base + (T - bias · level) / √(raters + 1), where its raters add up
    # T = Σ rater_bag + Σ (stars - mean - bias of the rater) · rater_residual and level = Σ rater_residual (with stars)
    rater_bag: HalfTable | None = None  # [C+1, D] what a customer adds to the history of a product; 0: nothing learned
    rater_residual: HalfTable | None = None  # [C+1, D] what it adds per star of residual
    product_base: Table | None = None  # [N+1, D]
    product_level: Table | None = None  # [N+1, D]
    product_raters: Numbers | None = None  # [N+1] reviews in the history of each product

    layers: Layers  # (kernel, bias) of the MLP: ReLU between them, the last one linear with one output; may be empty
    head: Head
    customer_ids: Strings  # [C+1]
    product_ids: Strings  # [N+1]
    titles: Strings  # [N+1] "" where the source gave none
    features: Strings | None = None  # "name=value", each once

    @property
    def seen(self) -> Lists:
        """The product rows that each customer reviewed; seen_stars and seen_part lie beside its items."""
        return Lists(self.seen_offsets, self.seen_product)

    @cached_property
    def memory(self) -> Memory | None:
        """What the products of a history vote for; None where the run has no memory."""
        if self.memory_offsets is None or self.memory_items is None or self.memory_weights is None:
            return None
        neighbours, head = Lists(self.memory_offsets, self.memory_items), self.head
        return Memory(neighbours, self.memory_weights, head.memory_fade, head.memory_last, head.memory_per_log)

    @cached_property
    def attention(self) -> Attention | None:
        """What reads the last products of a history in their order; None where the run has no attention."""
        if self.attention_within is None:
            return None
        names = (field.name for field in dataclasses.fields(Attention))
        return Attention(**{name: np.asarray(getattr(self, f"attention_{name}")) for name in names})

    @property
    def features_of_products(self) -> Lists:
        """The features of each product row, as rows of `features`."""
        if self.feature_offsets is None or self.feature_items is None:
            return Lists.empty(len(self.product_ids))
        return Lists(self.feature_offsets, self.feature_items)

    def arrays(self) -> dict[str, Array]:
        """Return the arrays that are there, by the name of their field and file."""
        arrays = {name: getattr(self, name) for name in FILES}
        return {name: array for name, array in arrays.items() if array is not None}


def files() -> dict[str, Stored]:
    """Read from the types of Vectors which of its fields are files, and of what kind."""
    kind_of: dict[str, Stored] = {}
    for name, hint in get_type_hints(Vectors, include_extras=True).items():
        options = (hint, *get_args(hint))  # Table, or the parts of Table | None
        kinds = [part for option in options for part in get_args(option) if isinstance(part, Stored)]
        if kinds:
            kind_of[name] = kinds[0]
    return kind_of


FILES = files()
OPTIONAL = {field.name for field in dataclasses.fields(Vectors) if field.default is None}


@dataclasses.dataclass(frozen=True)
class StoredArray:
    """What the file of an array must hold."""

    shape: tuple[int, ...]
    dtype: str
    crc32: int  # of its numbers: two runs of other numbers have another vectors.json


@dataclasses.dataclass(frozen=True)
class VectorsIndex(Document):
    """vectors.json: what stands in `vectors/`."""

    files: dict[str, StoredArray]
    layers: int
    head: Head


def check_learned(name: str, array: Array) -> None:
    """Raise AmzrecError where something learned is no number, before it is written and answers are made from it."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        wrong = int(array.size - np.isfinite(array).sum())
        raise AmzrecError(
            f"the training went wrong: {wrong:,} of the {array.size:,} numbers of {name} are none (NaN or infinite), "
            "so no run was written. Lower --learning-rate, or look for extreme stars and times: amzrec describe SOURCE"
        )


class Writing:
    """The files of `vectors/` in a run folder under construction, which are written one after the other."""

    def __init__(self, folder: Path) -> None:
        self.target, self.files = folder / VECTORS, dict[str, StoredArray]()
        self.target.mkdir()

    def put(self, name: str, array: Array) -> Array:
        """Write an array, and return it memory-mapped, so that it needs no memory from then on.

        Raises AmzrecError where a number of what was learned is none; only stars that a source did not give are.
        """
        heap.give_back()  # the array before this one
        array = np.ascontiguousarray(array)
        if name != "seen_stars":
            check_learned(name, array)
        file = self.target / f"{name}.npy"
        np.save(file, array, allow_pickle=False)
        self.files[name] = StoredArray(array.shape, str(array.dtype), zlib.crc32(array.data))
        return np.load(file, mmap_mode="r", allow_pickle=False) if array.size else array


def write_vectors(folder: Path, vectors: Vectors, writing: Writing | None = None) -> None:
    """Write `vectors/` into a run folder under construction, with shapes and checksums in vectors.json.

    `writing` has the arrays that are written already. Raises AmzrecError as Writing.put does.
    """
    writing = writing or Writing(folder)
    arrays = vectors.arrays()
    for number, (kernel, bias) in enumerate(vectors.layers):
        arrays[f"head_kernel_{number}"], arrays[f"head_bias_{number}"] = kernel, bias
    for name in STRINGS:
        strings: Strings | None = getattr(vectors, name)
        if strings is not None:
            arrays |= {f"{name}_{part}": getattr(strings, part) for part in ("blob", "offsets", "order")}
    for name, array in arrays.items():
        if name not in writing.files:
            writing.put(name, array)
    files = {name: writing.files[name] for name in arrays}
    VectorsIndex(files, len(vectors.layers), vectors.head).write(writing.target / INDEX)


def read_vectors(
    folder: Path, manifest: Manifest | None = None, verify: bool = False, shown: Path | None = None
) -> Vectors:
    """Open `vectors/` of a run folder memory-mapped.

    Sizes and shapes are compared each time. Checksums, with those of `manifest`, and what the numbers may be are
    compared when files are first opened on this machine (see remembered.py); with `verify` in any case. Raises
    AmzrecError naming the file, and the folder as it is `shown`, where one is missing or is not what was written.
    """
    manifest = manifest or read_manifest(folder, RUN_FOLDER)
    try:
        check_file(folder, f"{VECTORS}/{INDEX}", manifest)
        index = VectorsIndex.read(folder / VECTORS / INDEX, REMEDY)
        names, found = files_of(folder, index, manifest)
        compare = verify or not found.are_known()
        if manifest is not None:
            for name in names:
                (manifest.check_content if compare else manifest.check_size)(folder, name)
        vectors = opened(folder / VECTORS, index, compare and manifest is None)
        check_shapes(vectors)
        if compare:
            check_values(vectors)
            found.remember()
        return vectors
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise damaged(shown or folder, RUN_FOLDER, reason) from error


def check_file(folder: Path, name: str, manifest: Manifest | None) -> None:
    """Raise Damaged where a small file is not what the manifest says."""
    if manifest is not None:
        manifest.check_content(folder, name)


def files_of(folder: Path, index: VectorsIndex, manifest: Manifest | None) -> tuple[list[str], Files]:
    """Name the files of the arrays, and look at them with what is expected of them; OSError where one is missing."""
    names = [f"{VECTORS}/{name}.npy" for name in index.files]
    if manifest is None:
        return names, Files(folder, names, json.dumps(index.to_json(), sort_keys=True))
    return names, Files(folder, names, "".join(f"{name} {manifest.files.get(name)}\n" for name in names))


def as_written(folder: Path, manifest: Manifest | None) -> Files:
    """Return the files of the arrays as they stand, for a run folder that was written just now."""
    return files_of(folder, VectorsIndex.read(folder / VECTORS / INDEX, REMEDY), manifest)[1]


def opened(target: Path, index: VectorsIndex, verify: bool) -> Vectors:
    """Open the arrays of `vectors/`; OSError, ValueError or KeyError where they are not what vectors.json says."""
    arrays: dict[str, Any] = {
        name: read_array(target / f"{name}.npy", fact, verify) for name, fact in index.files.items()
    }
    layers = [(arrays.pop(f"head_kernel_{i}"), arrays.pop(f"head_bias_{i}")) for i in range(index.layers)]
    strings: dict[str, Any] = {
        name: Strings(*(arrays.pop(f"{name}_{part}") for part in ("blob", "offsets", "order")))
        for name in STRINGS
        if name not in OPTIONAL or f"{name}_blob" in arrays
    }
    for name, kind in FILES.items():
        if name in OPTIONAL and name not in arrays:
            continue
        if arrays[name].dtype != kind.dtype or arrays[name].ndim != kind.rank:
            raise ValueError(f"{name}.npy must be {kind.dtype} with {kind.rank} dimensions")
    return Vectors(layers=layers, head=index.head, **arrays, **strings)


def read_array(file: Path, fact: StoredArray, verify: bool) -> Array:
    """Open one array memory-mapped; OSError or ValueError where it is not what was written."""
    empty = 0 in fact.shape  # nothing can be mapped
    try:
        array = loaded(file, None if empty else "r")
    except OSError:
        raise
    except Exception as error:  # a damaged header is read as Python, with all the errors that Python has
        raise ValueError(f"{file.name} has no header of an array ({' '.join(str(error).split())[:200]})") from error
    if array.shape != fact.shape or str(array.dtype) != fact.dtype:
        raise ValueError(f"{file.name} holds {array.dtype}{list(array.shape)}, not {fact.dtype}{list(fact.shape)}")
    if verify:
        if zlib.crc32(np.ascontiguousarray(array).data) != fact.crc32:
            raise ValueError(f"{file.name} does not have the checksum that it was written with")
        give_back(array)
    return array


def loaded(file: Path, mode: Literal["r"] | None) -> Array:
    """Do as np.load does, once more where Python's parser, which reads the header, was disturbed by another thread.

    A collector that runs finalizers within it lets others parse, and it then raises SystemError (AST constructor
    recursion depth mismatch; python/cpython issue 106905) of a file in which nothing is wrong.
    """
    for _ in range(TRIES - 1):
        with contextlib.suppress(SystemError):
            return np.asanyarray(np.load(file, mmap_mode=mode, allow_pickle=False))
    return np.asanyarray(np.load(file, mmap_mode=mode, allow_pickle=False))
