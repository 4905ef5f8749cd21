"""The picture of `describe`: who has how many reviews, stars, and time (PNG)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from amzrec.evaluation import pictures
from amzrec.evaluation.pictures import Axis
from amzrec.store.dataset import PARTS

Counted = dict[str, Any]  # the document of describe, or a part of it


def draw_dataset(document: Counted, file: Path) -> None:
    """Draw reviews per customer and product, stars, and reviews over time, those that there are, as one PNG."""
    panels = ["reviews_per_customer", "reviews_per_product", *(n for n in ("stars", "time") if document[n])]
    figure, axes = pictures.canvas(2, 11, 3.6 * ((len(panels) + 1) // 2), (len(panels) + 1) // 2)
    for axis, name in zip(axes, panels, strict=False):
        axis.grid(axis="y", color=pictures.GRID)
        if name == "stars":
            draw_stars(axis, document[name])
        elif name == "time":
            draw_time(axis, document[name])
        else:
            draw_spread(axis, document[name], name.removeprefix("reviews_per_"))
    for axis in axes[len(panels) :]:
        axis.remove()
    kept, unknown = document["rows"]["kept"], document["cold"]
    title = (
        f"{Path(document['source']).name}: {kept:,} reviews of {document['customers']:,} customers "
        f"and {document['products']:,} products, {100 * document['density']:.2g} % of all pairs"
    )
    if unknown:
        title += (
            f"\n{document['protocol']['split']} split: {100 * unknown['customer']:.0f} % of the test reviews are of an "
            f"unknown customer, {100 * unknown['product']:.0f} % of an unknown product"
        )
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, color=pictures.INK)
    pictures.save(figure, file)


def draw_spread(axis: Axis, counted: Counted, who: str) -> None:
    """Draw two bars per bin: the share of the customers (products), and that of the reviews they hold."""
    bins = counted["histogram"][next(i for i, b in enumerate(counted["histogram"]) if b["count"]) :]
    names = [str(b["to"]) if b["from"] == b["to"] else f"{b['from']}–{b['to']}" for b in bins]
    at = np.arange(len(bins))
    for key, label, shift, colour in (
        ("count", f"% of the {who}s", -0.2, pictures.COLOURS["popularity"]),
        ("reviews", "% of the reviews", 0.2, pictures.COLOURS["recent_popularity"]),
    ):
        values = np.array([b[key] for b in bins])
        axis.bar(at + shift, 100 * values / values.sum(), 0.4, color=colour, label=label)
    crowded = len(bins) > 8
    axis.set_xticks(at, names, rotation=35 if crowded else 0, ha="right" if crowded else "center", fontsize=8)
    axis.set_title(f"Reviews per {who}", loc="left", color=pictures.INK)
    axis.set_xlabel(f"mean {counted['mean']:.2f}, median {counted['median']:g}, most {counted['most']:,}", fontsize=9)
    axis.legend(frameon=False, fontsize=9)


def draw_stars(axis: Axis, counted: Counted) -> None:
    """Draw one bar per value or bin of the stars."""
    bins = counted["histogram"]
    values = np.array([b["reviews"] for b in bins])
    names = [f"{b['from']:g}" if b["from"] == b["to"] else f"{b['from']:.3g}–{b['to']:.3g}" for b in bins]
    bars = axis.bar(np.arange(len(bins)), 100 * values / values.sum(), 0.7, color=pictures.TASKS["rating"])
    axis.bar_label(bars, [f"{100 * v / values.sum():.0f}" for v in values], fontsize=8, color=pictures.QUIET)
    axis.set_xticks(np.arange(len(bins)), names, fontsize=8, rotation=35 if len(bins) > 12 else 0)
    axis.set_title("Stars: % of the reviews", loc="left", color=pictures.INK)
    unrated = f", {counted['unrated']:,} without stars" if counted["unrated"] else ""
    axis.set_xlabel(f"mean {counted['mean']:.2f}, deviation {counted['deviation']:.2f}{unrated}", fontsize=9)


def draw_time(axis: Axis, counted: Counted) -> None:
    """Draw the reviews of each period, the parts on top of each other."""
    bins = counted["histogram"]
    begins = [b["from"] for b in bins]
    if all(begin.endswith("-01") for begin in begins):
        begins = [begin[:7] for begin in begins]  # months
    at = np.arange(len(bins))
    below = np.zeros(len(bins))
    colours = pictures.COLOURS["popularity"], pictures.COLOURS["recent_popularity"], pictures.MODELS[3]
    for name, colour in zip(PARTS, colours, strict=True):
        values = np.array([b[name] for b in bins])
        axis.bar(at, values, 0.9, below, color=colour, label=name)
        below += values
    few = np.unique(np.linspace(0, len(bins) - 1, min(6, len(bins))).round().astype(int))
    axis.set_xticks(few, [begins[i] for i in few], fontsize=8)
    axis.set_title("Reviews over time, by part", loc="left", color=pictures.INK)
    axis.set_xlabel(f"{counted['first']} to {counted['last']}", fontsize=9)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.legend(frameon=False, fontsize=9)
