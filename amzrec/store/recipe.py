"""The settings of a finished run, or of a JSON file, to be used again."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Any

from amzrec.config import PrepareConfig, TrainConfig
from amzrec.errors import AmzrecError
from amzrec.settings import flag, pairs_text, settings_of
from amzrec.store.documents import json_value, plain
from amzrec.store.run import METRICS, TASKS, Run, open_run

FIGURES = {  # name → (task, group in metrics.json) of the figures that stay with a recipe
    "rmse": ("rating", "rating"),
    "recall@10": ("retrieval", "ranking"),
    "ndcg@10": ("retrieval", "ranking"),
    "top_100": ("retrieval", "retrieval"),
}


NAMES = {  # our columns → as --columns names them
    "customer_id": "customer",
    "product_id": "product",
    "product_parent": "parent",
    "product_title": "title",
    "category": "category",
    "stars": "stars",
    "timestamp": "timestamp",
}
SPLIT_SEED = "split_seed"  # what `train` calls the seed of `prepare`, which has one of its own
SAMPLE = ("data", "sample")  # the folders at the end of the path of the embedded sample, which needs no name


@dataclasses.dataclass(frozen=True)
class RepeatedSettings:
    """What a recipe gives: the fields of a run by stage, or the keys of a file, which are the flags of a command."""

    train: dict[str, Any] = dataclasses.field(default_factory=dict)  # fields of TrainConfig
    prepare: dict[str, Any] = dataclasses.field(default_factory=dict)  # fields of PrepareConfig
    flags: dict[str, Any] = dataclasses.field(default_factory=dict)  # dashes read as underscores


def read_recipe(place: Path) -> RepeatedSettings:
    """Read the settings of the run folder `place`, or of the JSON object in the file `place`.

    Raises AmzrecError where there is neither, and where the file is no JSON object.
    """
    if place.is_dir():
        info = open_run(place).info
        protocol = plain(info.protocol) if info.protocol else {}
        split = {key: value for key, value in protocol.items() if key in settings_of(PrepareConfig)}
        return RepeatedSettings(train=info.recipe, prepare=split)
    try:
        document = json_value(place.read_text(encoding="utf-8"))
    except OSError as error:
        raise AmzrecError(f"--recipe {place}: {error.strerror or error}; name a run folder or a JSON file") from error
    except ValueError as error:
        raise AmzrecError(f"--recipe {place} is not a JSON file ({error}); name a run folder or a JSON file") from error
    if not isinstance(document, dict):
        raise AmzrecError(f'--recipe {place} is not a JSON object of flags, such as {{"epochs": 20, "dim": 64}}')
    return RepeatedSettings(flags={key.lstrip("-").replace("-", "_"): value for key, value in document.items()})


def last_figures(run: Run, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Return what the last evaluation of `run` found, for a run that repeats it with `settings` and no test reviews.

    The result has "run", the path of the run that was measured; "source", its reviews; "changed", the names of the
    settings that differ; and the FIGURES of what was trained. A run without test reviews passes on the figures that it
    has itself. None where `run` was never evaluated, or its metrics.json cannot be read.
    """
    changed = [name for name, value in run.info.recipe.items() if name in settings and settings[name] != value]
    if run.info.evaluated is not None:
        earlier = run.info.evaluated
        return earlier | {"changed": sorted({*earlier.get("changed", []), *changed})}
    try:
        run.check(METRICS)
        model = json_value((run.folder / METRICS).read_text(encoding="utf-8"))["model"]
        untrained = set(TASKS) & set(run.info.untrained)
        found = {
            name: model.get(group, {}).get(name) for name, (task, group) in FIGURES.items() if task not in untrained
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, AmzrecError):
        return None
    figures = {name: value for name, value in found.items() if value is not None}
    about = {"run": str(run.place), "source": run.info.source, "changed": changed}
    return about | figures if figures else None


def how_to_measure(run: Run) -> str:
    """Say what to type to measure the settings of a run that has no test reviews."""
    return f"evaluate with amzrec train SOURCE --recipe {shlex.quote(str(run.path))} --test 0.2"


def command_of(run: Run, columns: dict[str, str] | None = None) -> list[str]:
    """Return the words to type that train `run` again from its source, quoted for a shell.

    They hold the split and every setting that differs from its preset, also those that the data decided. `columns` are
    the columns of the source, by those of ours, where they have to be named.
    """
    info = run.info
    source = info.source or "SOURCE"
    named = source if "://" in source else Path(source).name
    words = ["amzrec", "train", *([] if Path(source).parts[-2:] == SAMPLE else [shlex.quote(named)])]
    if columns:
        pairs = {NAMES[ours]: name for ours, name in columns.items() if ours in NAMES}
        words += ["--columns", shlex.quote(pairs_text(pairs))]
    protocol = plain(info.protocol) if info.protocol else {}
    words += flags_of(PrepareConfig, protocol, {}, {"seed": SPLIT_SEED})
    if protocol.get("split") == "given":
        words += ["--test-source", "FILE"]
    preset = info.recipe.get("preset", "full")
    words += ["--preset", preset] if preset != "full" else []
    return words + flags_of(TrainConfig, info.recipe, TrainConfig.filled_in(preset))


def flags_of(
    config: type[PrepareConfig | TrainConfig],
    values: dict[str, Any],
    preset: dict[str, Any],
    renamed: dict[str, str] | None = None,
) -> list[str]:
    """Return the flags, each followed by its value, of the settings that differ from the defaults or the preset's."""
    words = list[str]()
    for name, setting in settings_of(config).items():
        value = tuple(values[name]) if isinstance(values.get(name), list) else values.get(name)
        if name == "preset" or value is None or value == preset.get(name, setting.default):
            continue
        spelled = (renamed or {}).get(name, name)
        if setting.kind is bool:
            words.append(flag(spelled) if value else flag(f"no_{spelled}"))
        else:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words += [flag(spelled), shlex.quote(text)]
    return words
