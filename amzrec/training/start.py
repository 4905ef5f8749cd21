"""Where a training starts that goes on from a run (`--from`): who and what is known there, which reviews are new."""

from __future__ import annotations

import dataclasses
import shlex

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from amzrec.arrays import Bools, Ints, Rows
from amzrec.config import Recipe, TrainConfig, flag
from amzrec.errors import AmzrecError
from amzrec.features.batches import REPLAYED, step_of
from amzrec.store.dataset import Dataset, Reviews, Scale
from amzrec.store.run import TASKS, Ancestor, Run, identity
from amzrec.store.strings import Strings
from amzrec.store.weights import WEIGHTS, Weights, open_weights

KEPT = (  # settings that shape the tables, or decide what their numbers mean
    "features", "dim", "overlap", "head", "history", "own_vector", "memory", "moment", "svd_start", "retrieval_loss",
    "optimizer",
)  # fmt: skip
SHARE = 0.07  # of the time of a training from scratch: a tenth, less what does not depend on the number of epochs
MOST_EPOCHS = 10  # of each phase
JUDGES = 0.25  # most of the new reviews that choose epochs
FEWEST_JUDGES = 200  # valid reviews below which nothing is chosen by them
LONG = 10_000_000  # reviews that a training from scratch passes over, below which a phase of choosing costs too much …
UNJUDGED = 6  # … and so many epochs are done without one, where there is time for them


@dataclasses.dataclass(frozen=True)
class Start:
    """A run to train on, and a dataset in its terms."""

    run: Run
    weights: Weights
    split: Dataset  # as it was prepared
    dataset: Dataset  # the same with other reviews in valid, see `with_judges`
    customer_rows: Ints  # [C + 1] rows of the run, -1 for customers that are new
    product_rows: Ints  # [N + 1] rows of the run, -1 for products that are new

    @classmethod
    def of(cls, run: Run, dataset: Dataset) -> Start:
        """Find the customers, the products and the reviews of a dataset in a run.

        Raises AmzrecError for a run without weights, where nothing is known or nothing is new, where products are named
        or stars are scaled in another way than in the run, and where it was fitted on reviews that are to test it.
        """
        weights, vectors = open_weights(run.folder), run.vectors
        run.check_below(WEIGHTS)
        if run.info.recipe.get("history") == "sequence":
            raise AmzrecError(
                f"run {run.path} was trained with --history sequence, whose attention is learned from scratch: "
                "train without --from, or bring new reviews in with amzrec update"
            )
        check_same_terms(run, dataset)
        found = cls(
            run,
            weights,
            dataset,
            dataset,
            rows_of(vectors.customer_ids, dataset.customers["customer_id"]),
            rows_of(vectors.product_ids, dataset.products["product_id"]),
        )
        name, both = shlex.quote(str(run.path)), Reviews.concat([dataset.train, dataset.valid])
        if not ((found.customer_rows[both.customer] > 0).any() and (found.product_rows[both.product] > 0).any()):
            raise AmzrecError(
                f"run {run.path} knows none of the customers, or none of the products, of {dataset.info.source}: "
                "these are other reviews, or their ids are written in another way. Train from scratch, without --from"
            )
        if not found.fresh(both).any():
            raise AmzrecError(
                f"run {run.path} was trained on all {len(both):,} reviews of {dataset.info.source} already, so that "
                f"nothing is left to learn; to train longer: amzrec train SOURCE --recipe {name} --epochs 80"
            )
        tested = int((~found.fresh(dataset.test)).sum())
        if tested:
            raise AmzrecError(
                f"run {run.path} was trained on {tested:,} of the {len(dataset.test):,} reviews that are to test it, "
                "so that its figures would flatter: split the reviews as that run did (--split, --split-seed, --test), "
                "hold out later ones with --split temporal, or none with --test 0"
            )
        return found.with_judges()

    def fresh(self, reviews: Reviews) -> Bools:
        """Tell which reviews [n] of the dataset the weights were not trained on."""
        return self.fresh_of(reviews.customer, reviews.product)

    def fresh_of(self, customer: Rows, product: Rows) -> Bools:
        """Tell the same of reviews of these customers and products [n]."""
        return ~self.weights.saw(self.customer_rows[customer], self.product_rows[product])

    def with_judges(self) -> Start:
        """Let valid hold reviews that can judge what is learned of the new ones, and train all others.

        What the run was fitted on is known by heart and cannot judge. Of the new reviews, which may all be in valid
        where it is the latest part, at most a share of JUDGES stays there, the latest ones.
        """
        train, valid = self.dataset.train, self.dataset.valid
        judges = np.flatnonzero(self.fresh(valid))
        most = int(JUDGES * (len(judges) + self.fresh(train).sum()))
        if len(judges) > most:
            judges = judges[np.argsort(valid.timestamp[judges], kind="stable")][len(judges) - most :]
        judging = np.zeros(len(valid), np.bool_)
        judging[judges] = True
        moved = dataclasses.replace(self.dataset)
        parts = {"train": Reviews.concat([train, valid.take(~judging)]), "valid": valid.take(judging)}
        vars(moved).update(parts, test=self.dataset.test)
        return dataclasses.replace(self, dataset=moved)

    @property
    def ancestors(self) -> tuple[Ancestor, ...]:
        """Return the chain of runs that ends with the one that is started from."""
        info = self.run.info
        return (
            *info.ancestors,
            Ancestor(
                run=str(self.run.place),
                identity=identity(self.run),
                finished=info.finished,
                source=info.source,
                fingerprint=info.fingerprint,
                reviews=len(self.weights.trained.seen.items),
                updates=len(info.updates),
            ),
        )

    def recipe(self, config: TrainConfig | None) -> Recipe:
        """Return the settings of the run with those of `config` that may be others.

        Raises AmzrecError for settings that would shape or read the tables of the run in another way. Epochs that are
        left open are as many as fit into SHARE of the epochs of a training from scratch, half for each phase.
        """
        settings = dict(self.run.info.recipe)
        epochs = None if config is None else config.epochs
        if config is not None:
            check_settings(self.run, config)
            given = {name: value for name, value in config.to_json().items() if value not in (None, "auto")}
            settings |= {name: value for name, value in given.items() if name not in KEPT}
        recipe = Recipe.of(**settings)
        if recipe.tasks != tuple(task for task in TASKS if task in self.run.info.trained):
            learned = " and ".join(self.run.info.trained)
            raise AmzrecError(
                f"run {self.run.path} learned {learned}, and these weights ask for {' and '.join(recipe.tasks)}: leave "
                "--rating-weight and --retrieval-weight out, or train from scratch, without --from"
            )
        return dataclasses.replace(
            recipe, refit=recipe.refit and len(self.dataset.valid) > 0, epochs=epochs or self.epochs(recipe)
        )

    def epochs(self, recipe: Recipe) -> int:
        """Return the default of --epochs."""
        both = Reviews.concat([self.dataset.train, self.dataset.valid])
        new = int(self.fresh(both).sum())
        share = min(max(new * (1 + REPLAYED), step_of(len(both), recipe)), len(both)) / len(both)
        phases = 2 if recipe.refit and self.judged else 1
        most = max(int(SHARE * self.weights.index.epochs / share / phases), 1)
        return min(most, MOST_EPOCHS if self.judged else UNJUDGED)

    @property
    def judged(self) -> bool:
        """Tell whether there are enough valid reviews to choose epochs by, and time for it."""
        fitted = len(self.dataset.train) + len(self.dataset.valid)
        return len(self.dataset.valid) >= FEWEST_JUDGES and fitted * self.weights.index.epochs >= LONG


def rows_of(known: Strings, ids: pa.ChunkedArray) -> Ints:
    """Find the rows of a run [n] of ids [n] of a dataset: first 0, the unknown one; -1 for what it does not know."""
    wanted = pc.cast(ids.combine_chunks(), pa.large_binary())
    wanted = wanted.chunk(0) if isinstance(wanted, pa.ChunkedArray) else wanted
    rows = known.rows_of(wanted)
    rows[rows == 0] = -1
    rows[:1] = 0
    return rows


def check_same_terms(run: Run, dataset: Dataset) -> None:
    """Raise AmzrecError where a dataset names products, or scales stars, in another way than a run."""
    protocol, head = run.info.protocol, run.vectors.head
    if protocol is not None and protocol.product_key != dataset.protocol.product_key:
        raise AmzrecError(
            f"run {run.path} names products by --product-key {protocol.product_key}, and these reviews by "
            f"{dataset.protocol.product_key}: prepare them with --product-key {protocol.product_key}"
        )
    if "rating" in run.info.trained and dataset.info.stars != Scale(head.low, head.high):
        found = "none" if dataset.info.stars is None else f"{dataset.info.stars.min:g} to {dataset.info.stars.max:g}"
        raise AmzrecError(
            f"run {run.path} learned stars from {head.low:g} to {head.high:g}, and these are {found}: "
            "train from scratch, without --from"
        )


def check_settings(run: Run, config: TrainConfig) -> None:
    """Raise AmzrecError where a setting that shapes tables, or says what they mean, is another than that of a run."""
    old, new = run.info.recipe, config.to_json()
    for name in KEPT:
        if name in old and new[name] not in (None, "auto", old[name]):
            typed = flag(name) if new[name] is not False else f"--no-{flag(name)[2:]}"
            value = "" if isinstance(new[name], bool) else f" {new[name]}"
            raise AmzrecError(
                f"{typed}{value} contradicts the run {run.path}, whose tables were made with {old[name]}: "
                "leave it out, or train from scratch, without --from"
            )
