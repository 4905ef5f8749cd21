"""How good the answers are, beside the best peers on the same rows with the same metric code.

    pip install 'amzrec[bench]'
    python scripts/bench/quality.py DATA --out benchmarks/quality.md          the whole table
    python scripts/bench/quality.py DATA --only ml-100k,amazon                parts of it

DATA holds ml-100k/, ml-1m/, amazon_us_reviews/ and sequences/. Every measurement is kept as JSON in --keep and not
repeated, so that a run that was ended goes on; the table is made of what is there. amzrec trains one joint model with
its default flags: validation chooses the epochs, then it is fitted on train and valid. Peers are fitted on train and
valid, with settings that are published as good on the same data, or chosen on valid, as those of the transition table
are; none is chosen on the test rows. RecTools' SASRec is not among them: up to Python 3.12 it needs numpy below 2, and
amzrec needs 2 or later.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np

import amzrec
from accuracy import (
    amazon,
    bounds,
    control,
    fold,
    fold_myfm,
    fold_without_times,
    listwise,
    ml_1m_retrieval,
    ml_1m_stars,
    order,
    scarce,
)
from amzrec.config import EPOCHS
from newcomers import catalogue, hidden, hidden_products, pairs
from sequences import in_order
from tables import markdown
from trained import Figures, Job

SEEDS, FOLDS = (42, 1, 2, 3, 4), range(1, 6)

GAPS = {  # parts that show what amzrec is better by than a rival, in which group and metric
    "amazon": [
        ("product_bias", "rating", "rmse"),
        ("popularity", "retrieval", "top_100"),
        ("dated_popularity", "retrieval", "top_100"),
    ],
    "sequences": [
        ("transitions, tuned", "ranking", "ndcg@10"),
        ("transitions, tuned", "ranking", "recall@10"),
        ("popularity", "ranking", "ndcg@10"),
    ],
}

JOBS: dict[str, dict[str, Job]] = {
    "ml-100k": {f"u{n}": fold(n) for n in FOLDS}
    | {f"u{n} without times": fold_without_times(n) for n in FOLDS}
    | {f"u{n} myFM": fold_myfm(n) for n in FOLDS},
    "sequences": {name: in_order(name) for name in ("Beauty", "Toys_and_Games", "ml-1m")},
    "amazon": {f"random {seed}": amazon("random", seed) for seed in SEEDS} | {"temporal": amazon("temporal", 42)},
    "listwise": {loss: listwise(loss) for loss in ("squared", "pairwise-hinge", "pairwise-logistic", "listmle")}
    | {"pairwise-hinge of 10": listwise("pairwise-hinge", 10)},
    "scarce": {f"seed {seed}": scarce(seed) for seed in SEEDS[:3]},
    "hidden": {"a fifth": hidden},
    "control": {f"seed {seed}": control("ml-100k/u1.base", seed) for seed in SEEDS[:3]},
    "control-ml-1m": {f"seed {seed}": control("ml-1m", seed, refit=False) for seed in SEEDS[:3]},
    "bounds": {f"seed {seed}": bounds(seed) for seed in SEEDS[:3]},
    "order": {history: order(history) for history in ("bag", "sequence")},
    "catalogue": {"new products": catalogue, "hidden films": hidden_products},
    "similar": {source: pairs(source) for source in ("u1", "sample")},
    "ml-1m": {"stars": ml_1m_stars, "retrieval": ml_1m_retrieval},
}


PEERS_ALONE = {f"u{n} myFM" for n in FOLDS}  # measurements that train nothing of amzrec


@dataclasses.dataclass(frozen=True)
class Column:
    """The values of one figure of one system over the measurements of a part."""

    name: str
    digits: int = 4

    def show(self, values: list[float]) -> str:
        """Mean and, of several values, its standard error."""
        if not values:
            return ""
        mean = f"{np.mean(values):.{self.digits}f}"
        return mean if len(values) < 2 else f"{mean} ± {np.std(values, ddof=1) / np.sqrt(len(values)):.{self.digits}f}"


COLUMNS = [Column(name) for name in ("rmse", "top_100", "recall@10", "ndcg@10", "ndcg@5", "hit@10")] + [
    Column("seconds", 0)
]


def part_table(found: dict[str, Figures]) -> str:
    """The systems of one part: means over its measurements with standard errors."""
    systems = list(dict.fromkeys(name for each in found.values() for name in each["systems"]))
    values = {
        (system, c.name): [
            f["systems"][system][c.name] for f in found.values() if c.name in f["systems"].get(system, {})
        ]
        for system in systems
        for c in COLUMNS
    }
    used = [c for c in COLUMNS if any(values[system, c.name] for system in systems)]
    rows = [[system, *(c.show(values[system, c.name]) for c in used)] for system in systems]
    return markdown(["", *(c.name for c in used)], rows)


def gaps(found: dict[str, Figures], wanted: list[tuple[str, str, str]]) -> str:
    """amzrec less a rival, measurement by measurement, with 95 % intervals."""
    rows = []
    for name, each in found.items():
        cells = []
        for rival, group, metric in wanted:
            gap = each["differences"][rival][group][metric]
            cells.append(f"{gap['difference']:+.4f} ({gap['low']:+.4f} to {gap['high']:+.4f})")
        rows.append([name, *cells])
    return markdown(["amzrec less", *(f"{rival}: {metric}" for rival, _, metric in wanted)], rows)


def report(keep: Path, before: str = "") -> str:
    """Everything that was measured so far; what was not, as it stands in the report of `before`."""
    text = [
        "# Quality\n",
        "Made by `scripts/bench/quality.py`; means ± standard errors over the measurements named. Seconds are those of "
        "one training on 2 cores that other work shared, with the code of the day on which its part was measured: they "
        "compare the rows of one part; what a training takes alone stands in LOG.md.\n",
    ]
    older = sections(before)
    for part, jobs in JOBS.items():
        found = {
            name: json.loads(kept(keep, part, name).read_text()) for name in jobs if kept(keep, part, name).exists()
        }
        text_of = {name: "" if name in PEERS_ALONE else since(each.get("defaults", {})) for name, each in found.items()}
        alone = {name for name in jobs if part in ("ml-1m", "similar", "catalogue", "sequences") or name == "temporal"}
        if together := {name: each for name, each in found.items() if name not in alone}:
            text.append(f"## {part}: {', '.join(together)}\n")
            for note in sorted({text_of[name] for name in together} - {""}):
                of = [name for name in together if text_of[name] == note]
                text.append(note if len(of) == len(together) else f"{', '.join(of)}: {note[0].lower()}{note[1:]}")
            text.append(part_table(together) + "\n")
        else:
            text += [older[title] for title in older if title.startswith(f"{part}:")]
        for name in jobs:
            if name not in alone:
                continue
            title = f"{part}, {name}"
            if name in found:
                text += [
                    f"## {title}\n",
                    *([text_of[name]] if text_of[name] else []),
                    part_table({name: found[name]}) + "\n",
                ]
            elif title in older:
                text.append(older[title])
        if part in GAPS and found:
            text.append(gaps(found, GAPS[part]) + "\n")
    return "\n".join(text)


EARLIER = "Measured with an earlier version of the code.\n"


def sections(report: str) -> dict[str, str]:
    """The parts of a report by their titles, each with a line that says that it is an earlier one's."""
    found = {}
    for section in report.split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        body = body if EARLIER in body else f"\n{EARLIER}{body}"
        found[title] = f"## {title}\n{body.rstrip()}\n"
    return found


def since(defaults: Figures) -> str:
    """A line that tells which defaults of `train` were others when this was measured; empty if none."""
    if not defaults:
        return "Measured before the defaults of `train` were kept.\n"
    now = amzrec.TrainConfig(epochs=EPOCHS).to_json()  # what no --epochs means without --from
    defaults = {**defaults, "epochs": defaults.get("epochs") or EPOCHS}
    other = [f"{name} {defaults.get(name)}" for name in now if defaults.get(name) != now[name]]
    return f"Measured when `train` had other defaults: {', '.join(other)}.\n" if other else ""


def draw(keep: Path, file: Path) -> None:
    """The systems on the folds of ML-100K, a dot for each fold: RMSE, recall@10, top-100."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    places = [kept(keep, "ml-100k", name) for name in JOBS["ml-100k"]]
    folds = [json.loads(place.read_text())["systems"] for place in places if place.exists()]
    everything = {name: figures for fold in folds for name, figures in fold.items()}
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.5))
    wanted = (("rmse", "RMSE (less is better)"), ("recall@10", "recall@10"), ("top_100", "top-100, nothing removed"))
    for axis, (metric, label) in zip(axes, wanted, strict=True):
        systems = [name for name, one in everything.items() if metric in one and name != "global_mean"]
        for line, name in enumerate(reversed(systems)):
            values = [fold[name][metric] for fold in folds if name in fold]
            axis.plot(values, [line] * len(values), "o", color="C3" if name == "amzrec" else "C0", alpha=0.6)
        axis.set_yticks(range(len(systems)), list(reversed(systems)))
        axis.set_xlabel(label)
    figure.suptitle("MovieLens 100K, published folds")
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def kept(keep: Path, part: str, name: str) -> Path:
    """Where a measurement stands."""
    return keep / f"{part} {name}.json".replace(" ", "_")


def main() -> None:
    """Measure what is missing, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", default=",".join(JOBS), help=f"of {', '.join(JOBS)}; part/name for one measurement")
    parser.add_argument("--keep", type=Path, default=Path("runs/quality"), help="folder of what was measured")
    parser.add_argument("--out", type=Path, help="Markdown file to write; default: only print")
    arguments = parser.parse_args()
    for wanted in arguments.only.split(","):
        part, _, one = wanted.partition("/")
        if part not in JOBS or one not in ("", *JOBS[part]):
            allowed = "; ".join(f"{part}: {', '.join(jobs)}" for part, jobs in JOBS.items())
            parser.error(f"--only {wanted} is not known; allowed are PART or PART/NAME of {allowed}")
    if not arguments.data.is_dir():
        parser.error(
            f"there is no folder {arguments.data}: "
            "name the one that holds ml-100k/, ml-1m/, amazon_us_reviews/, sequences/"
        )
    arguments.keep.mkdir(parents=True, exist_ok=True)
    for wanted in arguments.only.split(","):
        part, _, one = wanted.partition("/")
        for name, job in JOBS[part].items():
            place = kept(arguments.keep, part, name)
            if place.exists() or one not in ("", name):
                continue
            folder = Path(tempfile.mkdtemp())
            try:
                found = job(arguments.data, folder)
            finally:
                shutil.rmtree(folder)
            place.write_text(json.dumps(found | {"defaults": amzrec.TrainConfig().to_json()}, indent=1) + "\n")
            print(place.name, json.dumps(found["systems"]), flush=True)
    before = arguments.out.read_text() if arguments.out and arguments.out.exists() else ""
    text = report(arguments.keep, before)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)
        if any(kept(arguments.keep, "ml-100k", name).exists() for name in JOBS["ml-100k"]):
            draw(arguments.keep, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
