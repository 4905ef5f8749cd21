"""A plan as a document: what was counted, what it takes, whether it fits, and what to change where it does not."""

from __future__ import annotations

from typing import Any

from amzrec.config import Recipe, flag
from amzrec.errors import AmzrecError
from amzrec.planning.calibration import Calibration, seconds_of, total_of
from amzrec.planning.memory import memory_of
from amzrec.planning.parameters import parameters_of
from amzrec.planning.sizes import Sizes, sizes_of
from amzrec.store.dataset import Dataset

WORTH = 0.95  # of the memory that is left after a change that is worth naming


def document_of(
    dataset: Dataset, recipe: Recipe, sizes: Sizes, available: int | None, found: Calibration | None
) -> dict[str, Any]:
    """Put a plan together; `available` are the bytes that there are, `found` is what a calibration measured."""
    phase, memory = sizes.largest, memory_of(sizes, recipe)
    parameters = parameters_of(phase, recipe)
    stages = seconds_of(sizes, recipe, found) if found else None
    fits = available is None or memory.training <= available
    return {
        "source": dataset.info.source,
        "rows": sizes.parts,
        "customers": phase.customers.rows - 1,
        "products": phase.products.rows - 1,
        "own_vectors": {"customers": phase.customers.own - 1, "products": phase.products.own - 1},
        "parameters": parameters | {"all": sum(parameters.values())},
        "batch_size": phase.batch,
        "steps": {name: each.steps for name, each in sizes.phases.items()},
        "epochs": recipe.epochs,
        "memory": memory._asdict() | {"available": available},
        "seconds": stages and {name: round(seconds, 3) for name, seconds in stages.items()},
        "seconds_in_all": None if stages is None else round(total_of(stages), 3),
        "fits": fits,
        "changes": [] if fits else changes_of(dataset, recipe, memory.training),
    }


def changes_of(dataset: Dataset, recipe: Recipe, now: int) -> list[dict[str, Any]]:
    """List settings that would take less memory for a training: {"setting", "value", "training": bytes}, best first."""
    tried: list[tuple[str, Any]] = [
        ("batch_size", max(recipe.batch_size // 4, 1024)),
        ("dim", max(recipe.dim // 2, 8)),
        ("own_vector", 2 * recipe.own_vector),
        ("history_budget", max(recipe.history_budget // 4, 1024)),
    ]
    found = []
    for setting, value in tried:
        changed = recipe.replace(**{setting: value})
        takes = memory_of(sizes_of(dataset, changed), changed).training
        if takes < WORTH * now:
            found.append({"setting": setting, "value": value, "training": takes})
    return sorted(found, key=lambda change: change["training"])


def check_fits(dataset: Dataset, recipe: Recipe, available: int | None) -> None:
    """Raise AmzrecError where a training takes more than the `available` bytes, with what to change; None: unknown."""
    if available is None:
        return
    takes = memory_of(sizes_of(dataset, recipe), recipe).training
    if takes <= available:
        return
    options = [
        f"{flag(change['setting'])} {change['value']} ({gigabytes(change['training'])})"
        for change in changes_of(dataset, recipe, takes)
    ]
    listed = f"train with {' or '.join(options)}, " if options else ""
    raise AmzrecError(
        f"training on {dataset.info.source} takes about {gigabytes(takes)} of memory, and {gigabytes(available)} are "
        f"left here: {listed}prepare it with --min-reviews 5, or see amzrec plan; --anyway trains all the same"
    )


def gigabytes(size: float) -> str:
    """Write bytes for people: `12.3 GB`."""
    return f"{size / 1e9:,.1f} GB"
