"""What the verbs found, as aligned tables for people; the same documents go out whole with --json."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any

from amzrec.evaluation import metrics
from amzrec.store.run import Run

Figures = dict[str, Any]
COLUMNS = {  # heading: (group, metric, digits) of metrics.json
    "RMSE": ("rating", "rmse", 4),
    "MAE": ("rating", "mae", 4),
    "top-1": ("retrieval", "top_1", 4),
    "top-5": ("retrieval", "top_5", 4),
    "top-10": ("retrieval", "top_10", 4),
    "top-50": ("retrieval", "top_50", 4),
    "top-100": ("retrieval", "top_100", 4),
    "recall@10": ("ranking", "recall@10", 4),
    "NDCG@10": ("ranking", "ndcg@10", 4),
}
MODELS = {"rating": "rating only", "retrieval": "retrieval only", "joint": "joint"}


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Lines of aligned cells: a column is set to the right where all its cells are numbers; None shows as -."""
    cells = [[text(value) for value in row] for row in rows]
    values = [list(column) for column in zip(*cells, strict=True)] or [[] for _ in header]
    widths = [max(map(len, [name, *column])) for name, column in zip(header, values, strict=True)]
    right = [bool(column) and all(is_number(cell) for cell in column) for column in values]

    def line(row: Sequence[str]) -> str:
        parts = zip(row, widths, right, strict=True)
        return "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width) for cell, width, to_right in parts
        ).rstrip()

    return "\n".join([line(header), line(["-" * width for width in widths]), *map(line, cells)])


def text(value: Any) -> str:
    """A cell: whole numbers with thousands separators, other numbers with three digits, None as -."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def is_number(cell: str) -> bool:
    """Whether a cell shows a number, or none at all."""
    return cell == "-" or cell.replace(",", "").replace(".", "", 1).lstrip("-").isdigit()


def figure(figures: Figures, group: str, metric: str, digits: int) -> str | None:
    """One figure of metrics.json as text, None where it does not apply."""
    value = (figures.get(group) or {}).get(metric)
    return None if value is None else f"{value:.{digits}f}"


def evaluation(document: Figures, name: str = "model") -> str:
    """metrics.json: the protocol, the model beside its baselines, the slices, and what the intervals say."""
    untrained = document["untrained"]
    model = metrics.learned(document["model"], untrained)
    systems = {name: model}
    if "factorized_top_k" in model:
        systems["FactorizedTopK"] = {"retrieval": model["factorized_top_k"]}
    systems |= {plain(key): value for key, value in document["baselines"].items()}
    parts = [protocol(document["protocol"]), systems_table(systems), note({name: untrained})]
    return "\n\n".join(part for part in [*parts, slices(model.get("slices") or {}), verdicts(document)] if part)


def comparison(document: Figures) -> str:
    """The document of `compare`: the three models and the baselines, what the intervals say, where the picture is."""
    untrained = {MODELS.get(name, name): tasks for name, tasks in document["untrained"].items()}
    models = {MODELS.get(name, name): found for name, found in document["models"].items()}
    systems = {name: metrics.learned(found, untrained[name]) for name, found in models.items()}
    systems |= {plain(key): value for key, value in document["baselines"].items()}
    gaps = verdicts({"differences": document["differences"]["joint"], "untrained": document["untrained"]["joint"]})
    parts = [protocol(document["protocol"]), systems_table(systems), note(untrained)]
    parts.append(f"The joint model:\n{gaps}" if gaps else "")
    return "\n\n".join(part for part in [*parts, f"picture: {document['picture']}"] if part)


def note(untrained: dict[str, list[str]]) -> str:
    """Why figures of a model are missing, where they are."""
    tasks = ", ".join(f"{name}: {' and '.join(found)}" for name, found in untrained.items() if found)
    return f"Not trained, so not shown ({tasks}); the JSON has what the untrained start does." if tasks else ""


def systems_table(systems: dict[str, Figures]) -> str:
    """One row per system; a column that no system has is left out."""
    rows = [[name, *(figure(found, *where) for where in COLUMNS.values())] for name, found in systems.items()]
    used = [0] + [i for i in range(1, len(COLUMNS) + 1) if any(row[i] is not None for row in rows)]
    header = ["", *COLUMNS]
    return table([header[i] for i in used], [[row[i] for i in used] for row in rows])


def slices(found: dict[str, Figures | None]) -> str:
    """The model's figures on parts of the test rows."""
    parts = {f"{plain(name)} ({part.get('rows', 0):,} rows)": part for name, part in found.items() if part}
    return systems_table(parts) if parts else ""


def protocol(facts: Figures) -> str:
    """In one line: what the figures were measured on."""
    shares = f"{facts.get('split')} split, seed {facts.get('seed')}, product key {facts.get('product_key')}"
    rows = f"{facts.get('fit_rows', 0):,} reviews fitted, {facts.get('test_rows', 0):,} tested"
    known = [name for name in facts.get("query_context", []) if name != "date"]
    context = (
        f"; asked with the {' and '.join(known)} of the wanted product, another task than without" if known else ""
    )
    return f"{shares}: {rows}, {facts.get('candidates', 0):,} products to retrieve from{context}"


def verdicts(document: Figures) -> str:
    """One row per baseline: the gap of the main metrics, with its paired 95 % interval."""
    wanted = {"RMSE": ("rating", "rmse"), "top-100": ("retrieval", "top_100"), "recall@10": ("ranking", "recall@10")}
    rows = []
    for baseline, found in document["differences"].items():
        groups = metrics.learned(found, document["untrained"])
        gaps = [groups.get(group, {}).get(metric) for group, metric in wanted.values()]
        if any(gaps):
            rows.append([plain(baseline), *(interval(gap) if gap else None for gap in gaps)])
    used = [i for i in range(len(wanted) + 1) if any(row[i] is not None for row in rows)]
    header = ["difference to (95 % interval)", *wanted]
    return table([header[i] for i in used], [[row[i] for i in used] for row in rows]) if rows else ""


def interval(gap: dict[str, float]) -> str:
    """`-0.012 (-0.020 to -0.004)`."""
    return f"{gap['difference']:+.4f} ({gap['low']:+.4f} to {gap['high']:+.4f})"


def plain(name: str) -> str:
    """A JSON key as words."""
    return name.replace("_", " ")


def products(rows: list[Figures], width: int = 100) -> str:
    """A ranked list of products; the title is cut so that a line fits `width` characters."""
    keys = [
        key for key in ("rank", "title", "stars", "score", "similarity", "product_id") if any(key in r for r in rows)
    ]
    longest = max((len(str(row.get("product_id", ""))) for row in rows), default=10)
    room = max(20, width - longest - 26)
    cells = [[cut(row.get(key), room) if key == "title" else row.get(key) for key in keys] for row in rows]
    return table([{"product_id": "product"}.get(key, key) for key in keys], cells)


def cut(title: str | None, room: int) -> str | None:
    """A title that fits, with an ellipsis where it was cut."""
    return title if title is None or len(title) <= room else title[: room - 1].rstrip() + "…"


def prepared(info: Figures) -> str:
    """dataset.json: every row that was read, and where it went."""
    counts = info["counts"]
    rows: list[Sequence[Any]] = [("read", counts["read"])]
    rows += [(f"rejected: {reason}", number) for reason, number in counts["rejected"].items()]
    rows += [(label, counts[key]) for key, label in LOST.items() if counts.get(key)]
    rows += [(name, counts[name]) for name in ("kept", "train", "valid", "test", "customers", "products")]
    return table(["reviews", "number"], rows)


def description(document: Figures) -> str:
    """The document of `describe`: where the rows went, who has how many reviews, stars, time, cold rows, baselines."""
    sides = (document[f"reviews_per_{who}"]["histogram"] for who in ("customer", "product"))
    bins = []
    for both in zip_longest(*sides):
        part = both[0] or both[1]
        name = f"{part['from']:,}" if part["from"] == part["to"] else f"{part['from']:,} to {part['to']:,}"
        bins.append([name, *(side[key] if side else 0 for side in both for key in ("count", "reviews"))])
    header = ["reviews each", "customers", "their reviews", "products", "their reviews"]
    parts = [prepared({"counts": document["rows"] | {n: document[n] for n in ("customers", "products")}})]
    parts += [table(header, bins), facts(document)]
    if document["stars"]:
        stars = document["stars"]["histogram"]
        total = sum(part["reviews"] for part in stars)
        names = [f"{s['from']:g}" if s["from"] == s["to"] else f"{s['from']:.3g} to {s['to']:.3g}" for s in stars]
        rows = [[n, s["reviews"], f"{100 * s['reviews'] / total:.1f}"] for n, s in zip(names, stars, strict=True)]
        parts.append(table(["stars", "reviews", "%"], rows))
    if document["baselines"]:
        parts.append(systems_table({plain(name): found for name, found in document["baselines"].items()}))
    return "\n\n".join([*parts, *([f"picture: {document['picture']}"] if document["picture"] else [])])


def facts(document: Figures) -> str:
    """The single figures of `describe`, a line each."""
    lines = [f"density: {100 * document['density']:.3g} % of all pairs of a customer and a product"]
    for who in ("customer", "product"):
        found = document[f"reviews_per_{who}"]
        lines.append(f"reviews per {who}: mean {found['mean']:.2f}, median {found['median']:g}, most {found['most']:,}")
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


def what_next(run: Run) -> str:
    """What to type after a training."""
    known = run.vectors.customer_ids
    customer = known[1] if len(known) > 1 else "CUSTOMER_ID"
    return (
        f"Next:  amzrec recommend {customer} --run {run.path}\n"
        f"       amzrec evaluate {run.path} --json\n"
        f"       amzrec export {run.path} --out export"
    )


def recommendations(document: Figures, width: int) -> str:
    """The document of `recommend`: whom it is for or what it is made from, then the list."""
    customer = document["customer_id"]
    origin = {
        "liked": f"{customer} is not known to this run: answered from --liked",
        "popularity": f"{customer} is not known to this run: the most popular products; add --liked PRODUCT",
    }.get(document["answered_from"], f"for {customer}")
    return f"{origin}\n\n{products(document['recommendations'], width)}"


LOST = {"duplicates": "exact duplicates", "repeats": "same customer and product", "filtered": "under --min-reviews"}


def checks(found: Sequence[Any]) -> str:
    """The checks of `doctor`, each problem followed by its remedy."""
    lines = []
    for check in found:
        lines.append(f"{'ok     ' if check.ok else 'PROBLEM'}  {check.name}: {check.found}")
        if not check.ok and check.remedy:
            lines.append(f"         → {check.remedy}")
    return "\n".join(lines)
