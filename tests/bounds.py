"""How far float32 results of one formula may lie apart on different processors, block shapes and numbers of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

EPSILON = float(np.finfo(np.float32).eps)  # 2⁻²³: a rounded operation is off by at most half of it, relatively

Doubles = npt.NDArray[np.float64]


def sum_bound(terms: int, magnitude: Any) -> Any:
    """Bound the difference of two float32 sums of these `terms` numbers whose absolute values add up to `magnitude`.

    One computed sum of n rounded products is off by at most γ(n) Σ|a||b| with γ(n) = n u / (1 − n u) and u = ε / 2, in
    whatever order it is added and with or without fused multiplication (Higham, Accuracy and Stability of Numerical
    Algorithms, section 3.1). Two of them are therefore at most 2 γ(n) Σ|a||b|, about n ε Σ|a||b|, apart.
    """
    return terms * EPSILON / (1 - terms * EPSILON / 2) * magnitude


def product_bound(left: Any, right: Any) -> Doubles:
    """Bound the difference, element by element, of two float32 computations of `left @ right`: [n, d] by [d, m]."""
    left, right = (np.abs(np.asarray(matrix, np.float64)) for matrix in (left, right))
    return np.asarray(sum_bound(right.shape[0], left @ right), np.float64)


def assert_within(found: Any, known: Any, bound: Any) -> None:
    """Fail unless each element of `found` differs from that of `known` by at most `bound`; infinities must be equal."""
    one, other, allowed = np.broadcast_arrays(*(np.asarray(array, np.float64) for array in (found, known, bound)))
    with np.errstate(invalid="ignore"):  # infinity − infinity, which counts as equal here
        apart = np.where(one == other, 0.0, np.abs(one - other))
    wrong = ~(apart <= allowed)  # in this form a NaN is wrong
    assert not wrong.any(), (
        f"{wrong.sum()} of {wrong.size} elements differ by more than their bound, the first at "
        f"{np.argwhere(wrong)[0].tolist()}: {one[wrong][0]} against {other[wrong][0]}, "
        f"{apart[wrong][0]:.3g} apart, {allowed[wrong][0]:.3g} allowed"
    )


def assert_no_near_ties(scores: Any, bound: Any) -> None:
    """Fail where two scores of a line of `scores` [n, m] lie within twice `bound`: rounding could swap them.

    A test that compares selections (the best rows, an order) exactly calls this first, so that its answer is the same
    on every processor.
    """
    lines = np.sort(np.atleast_2d(np.asarray(scores, np.float64)), axis=1)
    assert (np.diff(lines, axis=1) > 2 * np.max(bound)).all(), "two scores are too near each other for one sure order"
