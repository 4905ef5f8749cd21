"""The pictures of a run and of a comparison (PNG); matplotlib is imported when one is drawn."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from amzrec.run import HISTORY

INK, QUIET, GRID = "#222222", "#777777", "#dddddd"
COLOURS = {"model": "#c0392b", "popularity": "#2c5f8a", "recent_popularity": "#6a9fc9", "test reviews": INK}
MODELS = ("#8e6bb0", "#2c8a6b", "#c0392b", "#d98c2b")
DPI = 150

Array = npt.NDArray[Any]


def canvas(columns: int, width: float, height: float) -> tuple[Any, Any]:
    """A figure with `columns` axes in a row, drawn without a display; axes come as a flat list."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(QUIET)
        axis.tick_params(colors=QUIET, labelcolor=INK)
        axis.set_axisbelow(True)
    return figure, axes


def draw_history(run: Path, folder: Path) -> Path | None:
    """training.png: every column of history.csv over the epochs, losses left, validation figures right."""
    file = run / HISTORY
    if not file.is_file():
        return None
    with file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    series = {name: [_number(row.get(name)) for row in rows] for name in (rows[0] if rows else {})}
    epochs = series.pop("epoch", list(range(1, len(rows) + 1)))
    loss = {n: v for n, v in series.items() if "loss" in n}
    valid = {n: v for n, v in series.items() if "valid" in n and "loss" not in n}
    groups = [(title, found) for title, found in (("loss", loss), ("on the validation rows", valid)) if found]
    if not groups:
        return None
    figure, axes = canvas(len(groups), 5.2 * len(groups), 3.6)
    for axis, (title, found) in zip(axes, groups, strict=True):
        for name, values in found.items():
            axis.plot(epochs, values, marker="o", markersize=3, label=name.replace("_", " "))
        axis.set_title(title, loc="left", color=INK)
        axis.set_xlabel("epoch")
        axis.grid(axis="y", color=GRID)
        axis.legend(frameon=False, fontsize=8)
    figure.savefig(folder / "training.png", dpi=DPI)
    return folder / "training.png"


def _number(text: str | None) -> float:
    """A cell of history.csv; NaN for an empty one."""
    try:
        return float(text) if text else float("nan")
    except ValueError:
        return float("nan")


def draw_coverage(counts: Array, tested: Array, tops: dict[str, Array], folder: Path) -> Path | None:
    """coverage.png: the share of all recommendations that goes to the most popular products of the catalogue.

    `counts` [M] fitted reviews of each candidate, `tested` positions of the test products (-1: none), `tops` by
    system the recommended positions [G, k]. A line above that of the test reviews recommends too much of the same.
    """
    if not len(counts):
        return None
    place = np.empty(len(counts), np.int64)
    place[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    figure, (axis,) = canvas(1, 6.2, 4.0)
    share = 100 * (np.arange(len(counts)) + 1) / len(counts)
    for name, chosen in {"test reviews": tested, **tops}.items():
        chosen = chosen[chosen >= 0]
        if len(chosen):
            reached = 100 * np.cumsum(np.bincount(place[chosen], minlength=len(counts))) / len(chosen)
            label = name if name == "test reviews" else f"top 10 of {name.replace('_', ' ')}"
            axis.plot(share, reached, label=label, color=COLOURS.get(name), linewidth=1.8)
    axis.set_xscale("log")
    axis.set_xlabel("% of the catalogue, the most reviewed first (log scale)")
    axis.set_ylabel("% of the recommendations")
    axis.set_ylim(0, 102)
    axis.grid(color=GRID)
    axis.legend(frameon=False, fontsize=9)
    axis.set_title("How much of the catalogue is recommended", loc="left", color=INK)
    figure.savefig(folder / "coverage.png", dpi=DPI)
    return folder / "coverage.png"
