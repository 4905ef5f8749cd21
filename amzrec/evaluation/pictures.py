"""The pictures of a run and of a comparison (PNG); matplotlib is imported when one is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from amzrec.arrays import Array
from amzrec.store.history import read_history
from amzrec.store.ownership import SOFTWARE

INK, QUIET, GRID = "#222222", "#777777", "#dddddd"
COLOURS = {"model": "#c0392b", "popularity": "#2c5f8a", "recent_popularity": "#6a9fc9", "test reviews": INK}
MODELS = ("#8e6bb0", "#2c8a6b", "#c0392b", "#d98c2b")
TASKS = {"rating": "#8e6bb0", "retrieval": "#2c8a6b"}
NAMES = {"rating": "rating only", "retrieval": "retrieval only", "customer_product_bias": "customer + product bias"}
DPI = 150

Axis = Any  # matplotlib's figures and axes: imported when one is drawn


def canvas(columns: int, width: float, height: float, rows: int = 1) -> tuple[Axis, list[Axis]]:
    """Make a figure with `columns` axes in each of the rows, without a display; axes come as a flat list."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(QUIET)
        axis.tick_params(colors=QUIET, labelcolor=INK)
        axis.set_axisbelow(True)
    return figure, list(axes)


def save(figure: Any, file: Path) -> None:
    """Write a figure as PNG, with the mark by which amzrec knows its own pictures."""
    figure.savefig(file, dpi=DPI, format="png", metadata={"Software": SOFTWARE})


def draw_history(run: Path, folder: Path) -> Path | None:
    """Draw training.png: each task's loss as a share of its constant predictor's, and each figure on valid, by epoch.

    The refit on train and valid is dashed; it has no figures on valid. None where there is no history yet; AmzrecError
    where it is no table of epochs.
    """
    rows = read_history(run)
    if not rows:
        return None
    phases = {name: [row for row in rows if row.get("phase") == name] for name in ("select", "refit")}
    columns = list(rows[0])
    tasks = [n.removesuffix("_loss") for n in columns if n.endswith("_loss")]
    figures = [name for name in columns if name.startswith("valid_") and any(row[name] for row in rows)]
    if not tasks:
        return None
    figure, axes = canvas(1 + len(figures), 4.2 * (1 + len(figures)), 3.4)
    for task in tasks:
        for phase, found in phases.items():
            # a constant has no loss where all stars are equal
            share = [_number(row[f"{task}_loss"]) / (_number(row.get(f"{task}_constant")) or np.nan) for row in found]
            label = task if phase == "select" or not phases["select"] else None
            style = {"color": TASKS.get(task, INK), "label": label, "linestyle": "-" if phase == "select" else "--"}
            axes[0].plot([int(row["epoch"]) for row in found], share, marker="o", markersize=3, **style)
    axes[0].set_title("train loss / loss of a constant", loc="left", color=INK)
    axes[0].legend(frameon=False, fontsize=9, title="dashed: refit" if phases["refit"] else None)
    for axis, name in zip(axes[1:], figures, strict=True):
        values = [_number(row[name]) for row in phases["select"]]
        colour = TASKS["rating" if name == "valid_rmse" else "retrieval"]
        axis.plot([int(row["epoch"]) for row in phases["select"]], values, marker="o", markersize=3, color=colour)
        axis.set_title(
            f"{name.removeprefix('valid_').replace('_', ' ').upper()} on the validation rows", loc="left", color=INK
        )
    for axis in axes:
        axis.set_xlabel("epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(axis="y", color=GRID)
    save(figure, folder / "training.png")
    return folder / "training.png"


def _number(text: str | None) -> float:
    """Read a cell of history.csv; NaN for an empty one."""
    try:
        return float(text) if text else float("nan")
    except ValueError:
        return float("nan")


def draw_coverage(counts: Array, tested: Array, tops: dict[str, Array], folder: Path) -> Path | None:
    """Draw coverage.png: the share of all recommendations that goes to the most popular products of the catalogue.

    `counts` [M] are the fitted reviews of each candidate, `tested` the columns of the test products (-1: none), `tops`
    by system the recommended columns [G, k]. A line above that of the test reviews recommends too much of the same.
    """
    if not len(counts):
        return None
    rank = np.empty(len(counts), np.int64)  # by popularity
    rank[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    figure, (axis,) = canvas(1, 6.2, 4.0)
    share = 100 * (np.arange(len(counts)) + 1) / len(counts)
    for name, chosen in {"test reviews": tested, **tops}.items():
        chosen = chosen[chosen >= 0]
        if len(chosen):
            reached = 100 * np.cumsum(np.bincount(rank[chosen], minlength=len(counts))) / len(chosen)
            label = name if name == "test reviews" else f"top 10 of {name.replace('_', ' ')}"
            axis.plot(share, reached, label=label, color=COLOURS.get(name), linewidth=1.8)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_xlabel("% of the catalogue, the most reviewed first (log scale)")
    axis.set_ylabel("% of the recommendations, or of the reviews")
    axis.set_ylim(0, 102)
    axis.grid(color=GRID)
    axis.legend(frameon=False, fontsize=9)
    axis.set_title("How much of the catalogue is recommended", loc="left", color=INK)
    save(figure, folder / "coverage.png")
    return folder / "coverage.png"


def draw_comparison(document: dict[str, Any], file: Path) -> Path:
    """Draw the comparison (see compare.compare) as two panels: RMSE of the stars, and top-k accuracy over k.

    RMSE is drawn as points on an axis that does not start at 0, since differences are what counts; intervals are
    those of the difference from the best baseline, hung on the model's point.
    """
    models, baselines = document["models"], document["baselines"]
    colours = dict(zip(models, MODELS, strict=False))
    rated = {n: f["rating"]["rmse"] for n, f in {**models, **baselines}.items() if "rating" in f}
    retrieved = {n: f["retrieval"] for n, f in {**models, **baselines}.items() if "retrieval" in f}
    panels = [name for name, found in (("rating", rated), ("retrieval", retrieved)) if found]
    figure, axes = canvas(len(panels), 5.8 * len(panels), 4.2)
    by_panel = dict(zip(panels, axes, strict=True))
    if rated:
        _draw_errors(by_panel["rating"], rated, colours, document["differences"])
    if retrieved:
        _draw_top_k(by_panel["retrieval"], retrieved, colours)
    facts = document["protocol"]
    figure.suptitle(
        f"{facts['test_rows']:,} test reviews, {facts['candidates']:,} products, "
        f"{facts['split']} split, seed {facts['seed']}",
        fontsize=9,
        color=QUIET,
        x=0.01,
        ha="left",
    )
    save(figure, file)
    return file


def named(system: str) -> str:
    """Write a key of the document as words."""
    return NAMES.get(system, system.replace("_", " "))


def _draw_errors(axis: Axis, rated: dict[str, float], colours: dict[str, str], differences: dict[str, Any]) -> None:
    """Draw one line per system, the best on top; models in colour with their interval, baselines grey."""
    order = sorted(rated, key=lambda name: rated[name], reverse=True)
    rivals = [name for name in order if name not in colours]
    for height, name in enumerate(order):
        colour = colours.get(name, QUIET)
        if name in colours and rivals:
            gap = differences[name][rivals[-1]]["rating"]["rmse"]
            ends = [rated[name] + gap[end] - gap["difference"] for end in ("low", "high")]
            axis.plot(ends, [height, height], color=colour, linewidth=5, alpha=0.3, solid_capstyle="butt")
        axis.plot(rated[name], height, "o", color=colour, markersize=8)
        axis.annotate(f"{rated[name]:.3f}", (rated[name], height), (0, 8), textcoords="offset points", ha="center")
    axis.set_yticks(range(len(order)), [named(name) for name in order])
    axis.set_ylim(-0.6, len(order) - 0.2)
    axis.margins(x=0.15)
    axis.grid(axis="x", color=GRID)
    axis.set_title("RMSE of the stars: lower is better", loc="left", color=INK)
    if rivals:
        axis.set_xlabel(f"stars (bars: 95 % interval of the gap to {named(rivals[-1])})", color=QUIET, fontsize=9)


def _draw_top_k(axis: Axis, retrieved: dict[str, dict[str, float]], colours: dict[str, str]) -> None:
    """Draw one line per system over k, named at its right end."""
    keys = list(next(iter(retrieved.values())))
    ks = [int(key.removeprefix("top_")) for key in keys]
    for name, figures in retrieved.items():
        values = [100 * figures[key] for key in keys]
        style = {"color": colours[name], "linewidth": 2} if name in colours else {"color": QUIET, "linestyle": "--"}
        if name == "recent_popularity":
            style["linestyle"] = ":"
        axis.plot(ks, values, marker="o", markersize=4, label=f"{named(name)} ({values[-1]:.1f})", **style)
    axis.set_xscale("log")
    axis.set_xticks(ks, [str(k) for k in ks])
    axis.minorticks_off()
    axis.set_ylim(bottom=0)
    axis.set_xlabel("k: products looked at, of the whole catalogue, nothing removed", color=QUIET, fontsize=9)
    axis.grid(axis="y", color=GRID)
    axis.legend(frameon=False, fontsize=9, title=f"(top-{ks[-1]})", title_fontsize=9, alignment="left")
    axis.set_title("% of test reviews found in the top k: higher is better", loc="left", color=INK)


def draw_front(document: dict[str, Any], file: Path) -> Path:
    """Draw what `tune` found (see tune.tune): each trial by its figures on valid, and the Pareto front.

    Of a single objective each trial is drawn by its number, and the best so far.
    """
    objectives, trials = document["objectives"], [t for t in document["trials"] if t["figures"]]
    names = [objective["name"] for objective in objectives]
    both = len(names) > 1
    figure, (axis,) = canvas(1, 6.2, 4.4)

    def place(trial: dict[str, Any]) -> tuple[float, float]:
        figures = [trial["figures"][name] for name in names]
        return (figures[0], figures[1]) if both else (trial["number"], figures[0])

    kinds = {
        "stopped": ([t for t in trials if t["state"] != "complete"], {"marker": "x", "color": QUIET, "s": 22}),
        "finished": ([t for t in trials if t["state"] == "complete"], {"color": MODELS[1], "s": 26}),
        "the defaults": ([t for t in trials if t["usual"]], {"marker": "s", "color": COLOURS["popularity"], "s": 60}),
        "the recipe": (
            [t for t in trials if t["number"] == document["chosen"]],
            {"marker": "o", "facecolors": "none", "edgecolors": COLOURS["model"], "s": 170, "linewidths": 1.8},
        ),
    }
    for label, (some, style) in kinds.items():
        if some:
            axis.scatter(*zip(*map(place, some), strict=True), label=label, zorder=3, **style)
    if both:
        front = sorted(place(t) for t in trials if t["number"] in document["front"])
        axis.plot(*zip(*front, strict=True), color=COLOURS["model"], linewidth=1.2, label="Pareto front", zorder=2)
    better = ["less" if objective["lower"] else "more" for objective in objectives]
    labels = [f"{name.upper()} on valid: {kind} is better" for name, kind in zip(names, better, strict=True)]
    axis.set_xlabel(labels[0] if both else "trial")
    axis.set_ylabel(labels[1] if both else labels[0])
    axis.grid(color=GRID)
    axis.legend(frameon=False, fontsize=9)
    axis.set_title(f"{len(trials)} trials of the study {document['study']}", loc="left", color=INK)
    save(figure, file)
    return file


def draw_backtest(document: dict[str, Any], file: Path) -> Path:
    """Draw a backtest (see backtest.backtest): each figure of each system by window, baselines grey."""
    windows = [window for window in document["windows"] if window["systems"]]
    panels = {"rmse": "RMSE of the stars: lower is better", "top_100": "% of reviews found in the top 100"}
    panels |= {"recall@10": "recall@10"}
    systems = dict.fromkeys(name for window in windows for name in window["systems"])
    shown = {
        key: title for key, title in panels.items() if any(key in s for w in windows for s in w["systems"].values())
    }
    figure, axes = canvas(max(len(shown), 1), 5.2 * max(len(shown), 1), 3.8)
    begins = [window["from"][: None if document["every"].endswith("h") else 10] for window in windows]
    colours = dict(zip(("trained_once", "trained_again", "updated", "warm_started"), MODELS, strict=False))
    for axis, (key, title) in zip(axes, shown.items(), strict=False):
        for number, name in enumerate(systems):
            values = [
                100 * w["systems"][name][key] if key == "top_100" else w["systems"][name][key]
                for w in windows
                if key in w["systems"].get(name, {})
            ]
            if len(values) != len(windows):
                continue
            grey = {"color": QUIET, "linestyle": ("--", ":", "-.")[number % 3]}
            style = {"color": colours[name], "linewidth": 2} if name in colours else grey
            axis.plot(range(len(windows)), values, marker="o", markersize=3, label=named(name), **style)
        axis.set_xticks(range(len(windows)), begins, rotation=30, ha="right", fontsize=8)
        axis.set_title(title, loc="left", color=INK)
        axis.grid(axis="y", color=GRID)
        axis.legend(frameon=False, fontsize=8)
    save(figure, file)
    return file
