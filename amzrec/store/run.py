"""The run folder: what a training left behind, written whole and opened memory-mapped."""

from __future__ import annotations

import dataclasses
import json
import os
import zlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from amzrec.errors import AmzrecError

RUN = "run.json"
METRICS = "metrics.json"
HISTORY = "history.csv"
VECTORS = "vectors"
INDEX = "vectors.json"
PLOTS = "plots"
CHECKPOINTS = "checkpoints"
RUNS = Path("runs")
PARTS = ("train", "valid", "test")  # the tags 0, 1, 2 of seen_part

Array = npt.NDArray[Any]

# C customers, N products, Dr retrieval dimensions, K rating dimensions, D tower width, S kept reviews
ARRAYS: dict[str, tuple[str, int]] = {
    "retrieval_query": ("float32", 2),  # [C+1, Dr+1] temperature folded in, last column 1
    "retrieval_candidate": ("float32", 2),  # [N+1, Dr+1] last column the popularity bias b
    "rating_query": ("float32", 2),  # [C+1, K+2] K latent, then the shrunk bias, then the additive term
    "rating_candidate": ("float32", 2),  # [N+1, K+2] likewise
    "rating_weight": ("float32", 1),  # [K] w of the weighted dot product
    "query_base": ("float32", 2),  # [C+1, D] the customer vector before its history
    "history_bag": ("float32", 2),  # [N+1, D] what a product adds to the history of a customer
    "history_residual": ("float32", 2),  # [N+1, D] times the rating residual
    "product_bias": ("float32", 1),  # [N+1] shrunk mean of stars - mean, which residuals are taken against
    "product_counts": ("int64", 1),  # [N+1] reviews in the fitted rows
    "customer_counts": ("int64", 1),  # [C+1]
    "candidates": ("int32", 1),  # rows of the products that may be recommended, ascending
    "seen_offsets": ("int64", 1),  # [C+2] reviews of customer row c: seen_offsets[c] .. seen_offsets[c+1]
    "seen_product": ("int32", 1),  # [S]
    "seen_stars": ("float32", 1),  # [S] NaN where the source gave none
    "seen_part": ("uint8", 1),  # [S] 0 train, 1 valid, 2 test
}
# only where dates tell what is popular when: what a query's period adds to the retrieval scores, 0 in the last one
OPTIONAL: dict[str, tuple[str, int]] = {
    "context": ("float32", 2),  # [T, N+1]
    "rating_context": ("float32", 1),  # [T] what a query's period adds to the stars, 0 in the last one
    "context_edges": ("int64", 1),  # [T-1] unix seconds where the periods 1.. begin
    # only where products have features: those of product row p are feature_items[feature_offsets[p] : …[p+1]]
    "feature_offsets": ("int64", 1),  # [N+2]
    "feature_items": ("int32", 1),  # rows of the strings `features`
}
STRINGS = ("customer_ids", "product_ids", "titles")  # each a Strings of [C+1] / [N+1] / [N+1] entries
FEATURES = "features"  # Strings of "name=value", where there are any


class Strings:
    """n strings by row, and rows by string, without loading them: UTF-8 bytes, offsets, and the sorted order."""

    def __init__(self, blob: Array, offsets: Array, order: Array) -> None:
        self.blob = blob  # uint8
        self.offsets = offsets  # int64 [n + 1]
        self.order = order  # int32 [n], rows by ascending bytes

    @classmethod
    def of(cls, values: list[str]) -> Strings:
        """Encode the values; row = position."""
        data = [value.encode() for value in values]
        offsets = np.zeros(len(data) + 1, np.int64)
        np.cumsum([len(d) for d in data], out=offsets[1:])
        order = np.array(sorted(range(len(data)), key=data.__getitem__), np.int32)
        return cls(np.frombuffer(b"".join(data), np.uint8), offsets, order)

    def __len__(self) -> int:
        return len(self.order)

    def raw(self, row: int) -> bytes:
        """The bytes of the string in this row."""
        return self.blob[self.offsets[row] : self.offsets[row + 1]].tobytes()

    def __getitem__(self, row: int) -> str:
        return self.raw(int(row)).decode()

    def find(self, value: str) -> int | None:
        """The first row in sorted order that holds exactly this string, or None; ~log2(n) reads."""
        key, low, high = value.encode(), 0, len(self.order)
        while low < high:
            middle = (low + high) // 2
            if self.raw(self.order[middle]) < key:
                low = middle + 1
            else:
                high = middle
        found = low < len(self.order) and self.raw(self.order[low]) == key
        return int(self.order[low]) if found else None


def feature_lists(features: list[list[str]]) -> tuple[Strings | None, dict[str, Array]]:
    """The distinct features of the product rows [N+1], and their lists as arrays; nothing where there are none."""
    number: dict[str, int] = {}
    items = [number.setdefault(feature, len(number)) for listed in features for feature in listed]
    if not items:
        return None, {}
    offsets = np.concatenate([[0], np.cumsum([len(listed) for listed in features])]).astype(np.int64)
    return Strings.of(list(number)), {"feature_offsets": offsets, "feature_items": np.array(items, np.int32)}


@dataclasses.dataclass(frozen=True)
class Vectors:
    """All that a training learned, as plain arrays: what every answer is computed from.

    `arrays` has the names of ARRAYS. `layers` are the (kernel, bias) of the rating MLP over
    concat(q[:K+1], v[:K+1], q[:K] * v[:K]): relu between layers, the last one linear with one output; may be empty.
    `head` is {"mean", "low", "high", "a_customer", "shrink_customer", "temperature", "retrieval_dims",
    "rating_start", "history"}: mean stars of the fitted rows, the scale's ends, the weight of a customer's shrunk bias
    in the additive term and its shrinkage (reviews), the retrieval temperature, D dims 0..retrieval_dims retrieve and
    rating_start.. rate, `history` is bag or sequence.
    stars = clip(mean + q[K+1] + v[K+1] + sum(w * q[:K] * v[:K]) + MLP, low, high).
    """

    arrays: dict[str, Array]
    layers: list[tuple[Array, Array]]
    head: dict[str, Any]
    customer_ids: Strings
    product_ids: Strings
    titles: Strings  # "" where the source gave none
    features: Strings | None = None  # "name=value", see OPTIONAL

    def __getitem__(self, name: str) -> Array:
        return self.arrays[name]


def write_vectors(folder: Path, vectors: Vectors) -> None:
    """Write `vectors/` into a run folder under construction, with shapes and checksums in vectors.json."""
    target = folder / VECTORS
    target.mkdir()
    arrays = dict(vectors.arrays)
    for number, (kernel, bias) in enumerate(vectors.layers):
        arrays[f"head_kernel_{number}"], arrays[f"head_bias_{number}"] = kernel, bias
    for name in (*STRINGS, *([FEATURES] if vectors.features else [])):
        strings: Strings = getattr(vectors, name)
        arrays |= {f"{name}_blob": strings.blob, f"{name}_offsets": strings.offsets, f"{name}_order": strings.order}
    files = {}
    for name, array in arrays.items():
        array = np.ascontiguousarray(array)
        np.save(target / f"{name}.npy", array, allow_pickle=False)
        files[name] = {"shape": list(array.shape), "dtype": str(array.dtype), "crc32": zlib.crc32(array.data)}
    index = {"files": files, "layers": len(vectors.layers), "head": vectors.head}
    (target / INDEX).write_text(json.dumps(index, indent=1))


def read_vectors(folder: Path, verify: bool = False) -> Vectors:
    """Open `vectors/` memory-mapped; `verify` also reads all of it and compares the checksums.

    Raises AmzrecError naming the file where one is missing, has another shape than vectors.json says, or differs.
    """
    target = folder / VECTORS
    try:
        index = json.loads((target / INDEX).read_text())
        arrays: dict[str, Array] = {}
        for name, fact in index["files"].items():
            array = np.load(
                target / f"{name}.npy", mmap_mode="r" if np.prod(fact["shape"]) else None, allow_pickle=False
            )
            if list(array.shape) != fact["shape"] or str(array.dtype) != fact["dtype"]:
                raise ValueError(
                    f"{name}.npy holds {array.dtype}{list(array.shape)}, not {fact['dtype']}{fact['shape']}"
                )
            if verify and zlib.crc32(np.ascontiguousarray(array).data) != fact["crc32"]:
                raise ValueError(f"{name}.npy does not have the checksum that it was written with")
            arrays[name] = array
        layers = [(arrays.pop(f"head_kernel_{i}"), arrays.pop(f"head_bias_{i}")) for i in range(index["layers"])]
        names = (*STRINGS, *([FEATURES] if f"{FEATURES}_blob" in arrays else []))
        strings = {n: Strings(*(arrays.pop(f"{n}_{part}") for part in ("blob", "offsets", "order"))) for n in names}
        for name, (dtype, rank) in ARRAYS.items():
            if arrays[name].dtype != dtype or arrays[name].ndim != rank:
                raise ValueError(f"{name}.npy must be {dtype} with {rank} dimensions")
        return Vectors(arrays, layers, index["head"], **strings)
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise AmzrecError(
            f"run folder {folder} is damaged or not one of amzrec: {reason}. "
            "Train again, or name another run with --run"
        ) from error


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run folder, opened."""

    path: Path
    info: dict[str, Any]  # run.json: config, protocol, dataset, fingerprint, versions, seconds, best_epochs, finished

    @cached_property
    def vectors(self) -> Vectors:
        """The learned vectors, memory-mapped."""
        return read_vectors(self.path)


def open_run(path: Run | Path | str | None = None) -> Run:
    """Open a finished run folder, or the latest one under `runs/`; raises AmzrecError with the next thing to type."""
    if isinstance(path, Run):
        return path
    path = latest_run() if path is None else Path(path)
    if not path.exists():
        known = ", ".join(str(p) for p in finished_runs()) or "none yet: make one with: amzrec train"
        raise AmzrecError(f"there is no run folder {path}; finished runs here: {known}")
    if not (path / RUN).is_file():
        raise AmzrecError(
            f"{path} is not a finished run folder (it has no {RUN}): make one with: amzrec train --run {path}"
        )
    try:
        info = json.loads((path / RUN).read_text())
        if not isinstance(info, dict) or "finished" not in info:
            raise ValueError("it does not say when it finished")
    except (OSError, ValueError) as error:
        raise AmzrecError(f"{path / RUN} is damaged ({error}): train again, or name another run with --run") from error
    return Run(path, info)


def finished_runs(root: Path = RUNS) -> list[Path]:
    """Finished run folders under `runs/`, the oldest first."""
    found = []
    for file in root.glob(f"*/{RUN}") if root.is_dir() else ():
        try:
            found.append((float(json.loads(file.read_text())["finished"]), file.parent))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return [path for _, path in sorted(found)]


def latest_run(root: Path = RUNS) -> Path:
    """The run that finished last; raises AmzrecError where there is none."""
    runs = finished_runs(root)
    if not runs:
        raise AmzrecError(f"there is no finished run under {root}{os.sep}: make one with: amzrec train")
    return runs[-1]
