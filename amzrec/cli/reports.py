"""The documents of the commands as text for people; with --json the same documents go out whole."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from amzrec.cli.tables import cut, span, table, used_columns
from amzrec.errors import CONTROL, printable
from amzrec.evaluation import metrics
from amzrec.store.recipe import how_to_measure
from amzrec.store.run import Run

Document = dict[str, Any]  # what a command gives for --json, or a part of it
COLUMNS = {  # heading → (group, metric) of the figures of a system
    "RMSE": ("rating", "rmse"),
    "MAE": ("rating", "mae"),
    "top-1": ("retrieval", "top_1"),
    "top-5": ("retrieval", "top_5"),
    "top-10": ("retrieval", "top_10"),
    "top-50": ("retrieval", "top_50"),
    "top-100": ("retrieval", "top_100"),
    "recall@10": ("ranking", "recall@10"),
    "NDCG@10": ("ranking", "ndcg@10"),
}
OF_CUSTOMERS = ("date", "earlier stars", "stars before and after")  # what query_context may say that is no feature
COMPARED = ("RMSE", "top-100", "recall@10")  # whose gaps to the baselines are shown with intervals
MODELS = {"rating": "rating only", "retrieval": "retrieval only", "joint": "joint"}
LOST = {"duplicates": "exact duplicates", "repeats": "same customer and product", "filtered": "under --min-reviews"}


# --- evaluate, train, compare


def evaluation(document: Document, name: str = "model") -> str:
    """Write metrics.json: the protocol, the model beside its baselines, its slices, and its gaps to the baselines."""
    untrained = document["untrained"]
    model = metrics.without_untrained(document["model"], untrained)
    systems = {name: model}
    if "factorized_top_k" in model:
        systems["FactorizedTopK"] = {"retrieval": model["factorized_top_k"]}
    if "as_of_now" in document:
        systems[f"{name}, as of now"] = metrics.without_untrained(document["as_of_now"], untrained)
    systems |= {plain(key): figures for key, figures in document["baselines"].items()}
    parts = [protocol(document["protocol"]), systems_table(systems), note({name: untrained})]
    return paragraphs(*parts, slices(model.get("slices") or {}), gaps_table(document["differences"], untrained))


def comparison(document: Document) -> str:
    """Write what `compare` found: the three models and the baselines, the joint model's gaps, and the picture."""
    untrained = {MODELS.get(name, name): tasks for name, tasks in document["untrained"].items()}
    models = {MODELS.get(name, name): figures for name, figures in document["models"].items()}
    systems = {name: metrics.without_untrained(figures, untrained[name]) for name, figures in models.items()}
    systems |= {plain(key): figures for key, figures in document["baselines"].items()}
    gaps = gaps_table(document["differences"]["joint"], document["untrained"]["joint"])
    parts = [protocol(document["protocol"]), systems_table(systems), note(untrained)]
    return paragraphs(*parts, f"The joint model:\n{gaps}" if gaps else "", f"picture: {document['picture']}")


def tuning(document: Document, sources: Sequence[str] | None) -> str:
    """Write what `tune` found: the defaults, the trials of the front and the one that was chosen; what to type next."""
    names = [objective["name"] for objective in document["objectives"]]
    settings = [dimension["name"] for dimension in document["dimensions"]]
    rows = []
    for trial in document["trials"]:
        on_front, picked = trial["number"] in document["front"], trial["number"] == document["chosen"]
        if (on_front or picked or trial["usual"]) and trial["figures"]:
            kind = ["the defaults"] * trial["usual"] + ["front"] * on_front + ["the recipe"] * picked
            figures = [f"{trial['figures'][name]:.4f}" for name in names]
            used = [f"{trial['settings'][name]:g}" for name in settings]
            rows.append([trial["number"], ", ".join(kind), *figures, *used])
    states = [trial["state"] for trial in document["trials"]]
    counts = ", ".join(f"{states.count(state):,} {state}" for state in dict.fromkeys(states))
    source = "".join(f" {quoted(name)}" for name in sources or ())
    return paragraphs(
        f"on valid, {len(states):,} trials ({counts}):",
        table(["trial", "", *names, *(name.replace("_", "-") for name in settings)], rows),
        f"picture: {document['picture']}",
        f"Next:  amzrec train --recipe {quoted(Path(document['recipe']))}{source}",
    )


def backtest(document: Document) -> str:
    """Write what `backtest` found: the systems by window, the RMSE and the top 100, then all windows together."""
    windows = [window for window in document["windows"] if window["systems"]]
    parts = []
    for key, title in (("rmse", "RMSE"), ("top_100", "top-100")):
        names = [name for name in document["overall"] if key in document["overall"][name]]
        rows = [
            [window["from"], f"{window['reviews']:,}"]
            + [f"{value:.4f}" if (value := window["systems"][name].get(key)) is not None else "-" for name in names]
            for window in windows
        ]
        rows.append(
            ["all", f"{sum(w['reviews'] for w in windows):,}", *(f"{document['overall'][n][key]:.4f}" for n in names)]
        )
        if names:
            parts.append(f"{title}\n{table(['from', 'reviews', *map(plain, names)], rows)}")
    return paragraphs(*parts, f"picture: {document['picture']}" if document["picture"] else "")


def paragraphs(*parts: str) -> str:
    """Join the parts that are not empty, with an empty line between them."""
    return "\n\n".join(part for part in parts if part)


def note(untrained: dict[str, list[str]]) -> str:
    """Say why figures of a model are missing, where some are."""
    missing = ", ".join(f"{name}: {' and '.join(tasks)}" for name, tasks in untrained.items() if tasks)
    return f"Not trained, so not shown ({missing}); the JSON has what the untrained start does." if missing else ""


def systems_table(systems: dict[str, Document]) -> str:
    """Set one row per system; a column that no system has is left out."""
    rows = [[name, *(figure(figures, *place) for place in COLUMNS.values())] for name, figures in systems.items()]
    return used_columns(["", *COLUMNS], rows)


def figure(figures: Document, group: str, metric: str) -> str | None:
    """Write one figure with four decimals, None where a system has none."""
    value = (figures.get(group) or {}).get(metric)
    return None if value is None else f"{value:.4f}"


def slices(parts: dict[str, Document | None]) -> str:
    """Set the model's figures on parts of the test reviews, one row per part that is not empty."""
    named = {f"{plain(name)} ({part.get('rows', 0):,} rows)": part for name, part in parts.items() if part}
    return systems_table(named) if named else ""


def protocol(facts: Document) -> str:
    """Say in one line what the figures were measured on."""
    split = f"{facts.get('split')} split, seed {facts.get('seed')}, product key {facts.get('product_key')}"
    rows = f"{facts.get('fit_rows', 0):,} reviews fitted, {facts.get('test_rows', 0):,} tested"
    known = " and ".join(name for name in facts.get("query_context", []) if name not in OF_CUSTOMERS)
    context = f"; asked with the {known} of the wanted product, another task than without" if known else ""
    return f"{split}: {rows}, {facts.get('candidates', 0):,} products to retrieve from{context}"


def gaps_table(differences: Document, untrained: list[str]) -> str:
    """Set the model's gap to each baseline in the main metrics, with its paired 95 % interval."""
    rows = []
    for baseline, gaps in differences.items():
        groups = metrics.without_untrained(gaps, untrained)
        main = [groups.get(group, {}).get(metric) for group, metric in (COLUMNS[name] for name in COMPARED)]
        if any(main):
            rows.append([plain(baseline), *(interval(gap) if gap else None for gap in main)])
    return used_columns(["difference to (95 % interval)", *COMPARED], rows) if rows else ""


def interval(gap: dict[str, float]) -> str:
    """Write a gap and its ends: `-0.0120 (-0.0200 to -0.0040)`."""
    return f"{gap['difference']:+.4f} ({gap['low']:+.4f} to {gap['high']:+.4f})"


def plain(name: str) -> str:
    """Read a key of the JSON as words."""
    return name.replace("_", " ")


def quoted(word: Path | str) -> str:
    """Return a word as a shell takes it, control characters as in bash.

    A path that begins with - becomes one from here (./-x), which is no flag anywhere; any other such word, which has to
    be the last one, stands behind --.
    """
    if isinstance(word, Path) and str(word).startswith("-"):
        return quoted(f"./{word}")
    text = shlex.quote(str(word))
    if CONTROL.search(text):
        named = {"\\": r"\\", "'": r"\'"}
        text = f"$'{''.join(named.get(c) or printable(c, json=True) for c in str(word))}'"
    return f"-- {text}" if str(word).startswith("-") else text


def untested(run: Run) -> str:
    """Say that nothing was measured, and what an earlier evaluation of these settings found, if that is known."""
    line = f"no test reviews (--test 0): nothing is measured; {how_to_measure(run)}"
    earlier = run.info.evaluated
    if earlier is None:
        return line
    names = {metric: heading for heading, (_, metric) in COLUMNS.items()}
    figures = ", ".join(f"{names[name]} {earlier[name]:.4f}" for name in names if name in earlier)
    changed = f" (this run has other settings: {', '.join(earlier['changed'])})" if earlier["changed"] else ""
    return f"{line}\nits recipe{changed} was evaluated as {earlier['run']} on {earlier['source']}: {figures}"


def what_next(run: Run) -> str:
    """Say what to type after a training."""
    customers = run.vectors.customer_ids
    customer = customers[1] if len(customers) > 1 else "CUSTOMER_ID"
    measured = "" if run.info.untested else f"       amzrec evaluate {quoted(run.path)} --json\n"
    return (
        f"Next:  amzrec recommend --run {quoted(run.path)} {quoted(customer)}\n"
        f"{measured}"
        f"       amzrec export {quoted(run.path)} --out export"
    )


# --- recommend, rate, similar


def recommendations(document: Document, width: int) -> str:
    """Say whom a list is for, or what it is made from, and set the list."""
    customer = document["customer_id"]
    origin = {
        "liked": f"{customer} is not known to this run: answered from --liked",
        "popularity": f"{customer} is not known to this run: the most popular products; add --liked PRODUCT",
    }.get(document["answered_from"], f"for {customer}")
    if unknown := document.get("unknown_excluded"):
        origin += f"\nnot in this run, so nothing to exclude: {', '.join(unknown)}"
    if not document["recommendations"]:
        return (
            f"{origin}\nNothing is left to recommend: all products are reviewed, liked, excluded or filtered away; "
            "--include-seen lists the reviewed ones too."
        )
    return f"{origin}\n\n{products(document['recommendations'], width)}"


def products(rows: list[Document], width: int = 100) -> str:
    """Set a ranked list of products; titles are cut so that a line fits `width` characters."""
    order = ("rank", "title", "stars", "score", "similarity", "product_id")
    names = [name for name in order if any(name in row for row in rows)]
    longest = max((len(str(row.get("product_id", ""))) for row in rows), default=10)
    room = max(20, width - longest - 26)  # 26 characters: the other columns and the gaps
    cells = [[cut(row.get(name), room) if name == "title" else row.get(name) for name in names] for row in rows]
    return table([{"product_id": "product"}.get(name, name) for name in names], cells)


# --- prepare, describe, doctor


def prepared(counts: Document) -> str:
    """Set the counts of dataset.json: every row that was read, and where it went."""
    rows: list[Sequence[Any]] = [("read", counts["read"])]
    rows += [(f"rejected: {reason}", number) for reason, number in counts["rejected"].items()]
    rows += [(label, counts[key]) for key, label in LOST.items() if counts.get(key)]
    rows += [(name, counts[name]) for name in ("kept", "train", "valid", "test", "customers", "products")]
    return table(["reviews", "number"], rows)


def some(number: int, noun: str) -> str:
    """Write how many there are: 1 review, 2 reviews."""
    return f"{number:,} {noun}" + "s" * (number != 1)


def updated(document: Document) -> str:
    """Write what became of the reviews of `update`, and what to do next."""
    came = document["update"]
    said = (
        f"{some(came['reviews'], 'new review')}, {came['replaced']:,} in place of older ones, {came['known']:,} known, "
        f"{came['rejected']:,} rejected; {some(came['new_customers'], 'new customer')}, "
        f"{some(came['new_products'], 'new product')}"
    )
    notes = {
        "undated": "reviews have no time and count as written at the latest time known",
        "off_scale": "reviews have stars beyond the scale of the run and count as its end",
    }
    told = [f"{came[name]:,} {text}" for name, text in notes.items() if came[name]]
    told += [f"as it was learned: {what}" for what in came["frozen"]]
    if not came["reviews"] + came["replaced"]:
        told.append("nothing is new: the run answers as it did")
    return paragraphs("\n".join([said, *told]), f"Next:  amzrec serve {quoted(Path(document['run']))}")


def description(document: Document) -> str:
    """Write what `describe` found: rows, reviews of each customer and product, single figures, stars, baselines."""
    counts = document["rows"] | {name: document[name] for name in ("customers", "products")}
    baselines = {plain(name): figures for name, figures in document["baselines"].items()}
    return paragraphs(
        prepared(counts),
        review_counts(document),
        facts(document),
        stars(document["stars"]["histogram"]) if document["stars"] else "",
        systems_table(baselines) if baselines else "",
        f"picture: {document['picture']}" if document["picture"] else "",
    )


def review_counts(document: Document) -> str:
    """Set how many customers and products have how many reviews, a row per bin."""
    sides = (document[f"reviews_per_{who}"]["histogram"] for who in ("customer", "product"))
    rows = []
    for bins in zip_longest(*sides):
        some = bins[0] or bins[1]
        counts = [side[key] if side else 0 for side in bins for key in ("count", "reviews")]
        rows.append([span(some["from"], some["to"]), *counts])
    return table(["reviews each", "customers", "their reviews", "products", "their reviews"], rows)


def stars(bins: list[Document]) -> str:
    """Set how many reviews have how many stars, and their share in percent."""
    total = sum(part["reviews"] for part in bins)
    rows = [
        [span(float(part["from"]), float(part["to"])), part["reviews"], f"{100 * part['reviews'] / total:.1f}"]
        for part in bins
    ]
    return table(["stars", "reviews", "%"], rows)


def facts(document: Document) -> str:
    """Write the single figures of `describe`, a line each."""
    lines = [f"density: {100 * document['density']:.3g} % of all pairs of a customer and a product"]
    for who in ("customer", "product"):
        per = document[f"reviews_per_{who}"]
        lines.append(f"reviews per {who}: mean {per['mean']:.2f}, median {per['median']:g}, most {per['most']:,}")
    if document["stars"]:
        lines.append(f"stars: mean {document['stars']['mean']:.3f}, deviation {document['stars']['deviation']:.3f}")
    if document["time"]:
        lines.append(f"time: {document['time']['first']} to {document['time']['last']}")
    if document["cold"]:
        unknown = {name: f"{100 * share:.1f} %" for name, share in document["cold"].items()}
        lines.append(
            f"cold under the {document['protocol']['split']} split, of the test reviews: {unknown['customer']} have an "
            f"unknown customer, {unknown['product']} an unknown product, {unknown['either']} either"
        )
    lines.append(f"titles: {document['titled_products']:,} products have one")
    return "\n".join([*lines, *document["warnings"]])


def checks(document: list[Document]) -> str:
    """Write the checks of `doctor`, each problem followed by its remedy."""
    lines = []
    for check in document:
        lines.append(f"{'ok     ' if check['ok'] else 'PROBLEM'}  {check['name']}: {check['found']}")
        if not check["ok"] and check["remedy"]:
            lines.append(f"         → {check['remedy']}")
    return "\n".join(lines)
