"""The settings of each stage: frozen dataclasses, checked at construction, dumped as JSON beside what they made."""

from __future__ import annotations

import dataclasses
import difflib
import json
from typing import Any, NamedTuple, Self

from amzrec.errors import AmzrecError

SPLITS = ("random", "per-customer", "temporal", "leave-last-out", "given")
PRODUCT_KEYS = ("auto", "id", "title", "parent")
CATALOGUES = ("train", "all")
ENGINES = ("duckdb", "spark")
FEATURES = ("full", "ids")
RATING_LOSSES = ("squared", "pairwise-hinge", "pairwise-logistic", "listmle")
RETRIEVAL_LOSSES = ("softmax", "dot")
OPTIMIZERS = ("adagrad", "adam")
PRECISIONS = ("float32", "bfloat16")


def flag(name: str) -> str:
    """The command-line spelling of a field: `rating_weight` → `--rating-weight`."""
    return "--" + name.replace("_", "-")


def require(ok: bool, name: str, found: object, allowed: str) -> None:
    """Raise the one error of a bad setting: which flag, what was found, what is allowed."""
    if not ok:
        raise AmzrecError(f"{flag(name)} is {found!r}; allowed: {allowed}")


@dataclasses.dataclass(frozen=True)
class Config:
    """JSON in and out for the frozen dataclasses below; an unknown key is an error."""

    def to_json(self) -> dict[str, Any]:
        """A plain dict of JSON values, in field order."""
        return dict(json.loads(json.dumps(dataclasses.asdict(self))))

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Build from keywords or a JSON dict; lists become tuples; an unknown key raises AmzrecError."""
        names = [f.name for f in dataclasses.fields(cls)]
        for key in values:
            if key not in names:
                near = difflib.get_close_matches(key, names, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise AmzrecError(f"unknown setting {key!r}{hint} (allowed: {', '.join(names)})")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})

    def replace(self, **values: Any) -> Self:
        """The same settings with some changed."""
        return type(self).of(**{**dataclasses.asdict(self), **values})


@dataclasses.dataclass(frozen=True)
class PrepareConfig(Config):
    """How a source becomes a dataset folder (the protocol of every figure that follows)."""

    format: str | None = None  # name of a source format; None: detected from the content
    columns: str | None = None  # "customer=UserId,product=ItemId,stars=rating,timestamp=time,title=name"
    titles: str | None = None  # path of a metadata file that gives titles and features by product id
    product_key: str = "auto"  # what names a product: id | title | parent; auto: parent where there is one, else id
    min_reviews: int = 0  # k of the k-core: reviews that every customer and product must keep; 0: off
    min_stars: float = 0.0  # stars from which a review counts as relevant in ranking metrics; 0: all
    split: str = "random"  # who is tested on what, see SPLITS
    test: float = 0.2  # share of the reviews held out as test
    valid: float = 0.1  # share of the remaining train reviews held out as valid
    seed: int = 42  # of the split's hash
    test_source: str | None = None  # file of the test reviews of --split given
    catalogue: str = "train"  # candidates: the products reviewed in train, or all that the source lists
    engine: str = "duckdb"  # what runs the Ibis expressions, see ENGINES
    spark_master: str | None = None  # of --engine spark: local[4], spark://host:7077, yarn; None: as Spark is set up
    max_rejects: float = 0.05  # share of rejected rows above which prepare stops

    def __post_init__(self) -> None:
        require(self.product_key in PRODUCT_KEYS, "product_key", self.product_key, " | ".join(PRODUCT_KEYS))
        require(self.split in SPLITS, "split", self.split, " | ".join(SPLITS))
        require(self.catalogue in CATALOGUES, "catalogue", self.catalogue, " | ".join(CATALOGUES))
        require(self.engine in ENGINES, "engine", self.engine, " | ".join(ENGINES))
        require(self.min_reviews >= 0, "min_reviews", self.min_reviews, "0 (off) or a positive whole number")
        require(0 < self.test < 1, "test", self.test, "a share between 0 and 1, such as 0.2")
        require(0 <= self.valid < 1, "valid", self.valid, "a share from 0 (no validation) to below 1, such as 0.1")
        require(0 <= self.max_rejects <= 1, "max_rejects", self.max_rejects, "a share from 0 to 1")
        if self.split == "given" and not self.test_source:
            raise AmzrecError("--split given needs the file of test reviews: add --test-source FILE")
        if self.test_source and self.split != "given":
            raise AmzrecError(f"--test-source needs --split given; found --split {self.split}")

    def protocol(self) -> dict[str, Any]:
        """The part that decides which rows are compared: what `metrics.json` repeats as its protocol."""
        keys = ("split", "test", "valid", "seed", "product_key", "min_reviews", "min_stars", "catalogue")
        return {key: value for key, value in self.to_json().items() if key in keys}


NEGATIVES = ("auto", "batch", "full")
BATCH, MOST = 8192, 65_536  # reviews per step that fit any data, and at most
LARGE_STEPS = 25  # steps per epoch between the two: on ML-1M 25 large steps learned more than 105 small ones (LOG.md)
HISTORIES = ("bag", "sequence")


@dataclasses.dataclass(frozen=True)
class TrainConfig(Config):
    """What is learned and how; the defaults are those of the figures in the README."""

    rating_weight: float = 1.0  # weight of the mean rating loss; 0: retrieval only
    retrieval_weight: float = 1.0  # weight of the mean retrieval loss; 0: rating only
    features: str = "full"  # full: ids, histories, popularity, biases, words, attributes; ids: StringLookup + embedding
    epochs: int = 40  # most epochs to train; validation decides which one is kept
    patience: int = 6  # epochs without a better validation figure of either task before training stops
    dim: int = 96  # width of the towers; full: the first 2/3 retrieve, the last 2/3 rate; ids: all do both
    head: tuple[int, ...] = (64,)  # widths of the hidden layers of the rating head; empty: none
    batch_size: int = 0  # most reviews per step; 0: 8,192, or a 25th of more than 200,000 reviews, up to 65,536
    optimizer: str = "adam"  # adam: lazy Adam with averaged weights; adagrad: as the reference has it
    learning_rate: float | None = None  # per step; None: 0.005 for adam, 0.003 above 8,192 reviews, 0.1 for adagrad
    average: float = 0.97  # decay per step of the averaged weights of adam; 0: the last weights
    l2: float = 3.0  # penalty on the squared vectors of ids and words, per example, times 1 + l2_rare / reviews
    l2_history: float = 3.0  # the same on the squared history vectors
    l2_rare: float = 30.0  # reviews at which a vector's penalty is twice that of one with many; ridge of words' biases
    own_vector: int = 5  # least reviews for a vector of its own; rarer customers and products are their history
    history: str = "bag"  # of a customer: bag, or sequence: the last products in order as well, through a GRU
    history_dropout: float = 0.1  # share of a history dropped at random in training
    history_cap: int = 1000  # most reviews of one history in training, drawn at random; answers use all
    mask: float = 0.1  # share of examples whose known customer is masked as unknown in training
    negatives: str = "auto"  # candidates of the softmax: batch, full catalogue, or auto: full up to 8,192 products
    hard_negatives: int = 0  # negatives of each review that the softmax keeps, the best scored; 0: all
    mask_positives: bool | None = None  # a customer's other products are no negatives; default: not with ids or order
    equal_customers: float | None = None  # softmax weight of a review by a customer of n: n^-this; default: .25, ids 0
    log_q: bool = True  # correct in-batch negatives by their share in train (Yi et al. 2019, eq. 3)
    svd_start: bool = True  # start products at singular vectors of train, where that ranks valid better than popularity
    temperature: float = 0.2  # of the retrieval score at the start; learned from there with --features full
    rating_loss: str = "squared"  # squared; over lists of a customer: pairwise-hinge, pairwise-logistic, listmle
    list_size: int = 5  # reviews of a customer in each list of the losses over lists; the rest of a customer waits
    retrieval_loss: str = "softmax"  # softmax over products, or dot: squared error of q·v against the stars as 0..1
    precision: str = "float32"  # of matrix products while training: float32 or bfloat16; tables, sums, answers: float32
    refit: bool = True  # train again on train + valid for the epochs found best
    seed: int = 42  # of weights, batches and masks

    def __post_init__(self) -> None:
        weights = "a number from 0, such as 1"
        require(self.rating_weight >= 0, "rating_weight", self.rating_weight, weights)
        require(self.retrieval_weight >= 0, "retrieval_weight", self.retrieval_weight, weights)
        if self.rating_weight == 0 and self.retrieval_weight == 0:
            raise AmzrecError("--rating-weight and --retrieval-weight are both 0: nothing to learn. Set one above 0")
        require(self.features in FEATURES, "features", self.features, " | ".join(FEATURES))
        require(self.epochs >= 1, "epochs", self.epochs, "a whole number from 1")
        require(self.patience >= 1, "patience", self.patience, "a whole number from 1")
        require(self.dim >= 3, "dim", self.dim, "a whole number from 3, such as 32 or 96")
        require(all(width >= 1 for width in self.head), "head", self.head, "widths from 1, such as 256,128")
        require(self.batch_size >= 0, "batch_size", self.batch_size, "0 (by the data) or a whole number, such as 8192")
        require(self.optimizer in OPTIMIZERS, "optimizer", self.optimizer, " | ".join(OPTIMIZERS))
        require(self.learning_rate is None or self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        require(0 <= self.average < 1, "average", self.average, "from 0 to below 1")
        require(self.l2 >= 0, "l2", self.l2, "from 0")
        require(self.l2_history >= 0, "l2_history", self.l2_history, "from 0")
        require(self.l2_rare >= 0, "l2_rare", self.l2_rare, "from 0")
        require(self.own_vector >= 0, "own_vector", self.own_vector, "a whole number from 0 (all have one)")
        require(self.history in HISTORIES, "history", self.history, " | ".join(HISTORIES))
        if self.history == "sequence" and self.features == "ids":
            raise AmzrecError("--history sequence needs --features full: with ids a customer has no history")
        require(0 <= self.history_dropout < 1, "history_dropout", self.history_dropout, "from 0 to below 1")
        require(self.history_cap >= 1, "history_cap", self.history_cap, "a whole number from 1")
        require(0 <= self.mask < 1, "mask", self.mask, "from 0 to below 1")
        require(self.negatives in NEGATIVES, "negatives", self.negatives, " | ".join(NEGATIVES))
        power = self.equal_customers
        require(power is None or 0 <= power <= 1, "equal_customers", power, "from 0 (each review counts the same) to 1")
        require(self.temperature > 0, "temperature", self.temperature, "above 0")
        require(self.hard_negatives >= 0, "hard_negatives", self.hard_negatives, "0 (all) or a positive whole number")
        require(
            self.retrieval_loss in RETRIEVAL_LOSSES, "retrieval_loss", self.retrieval_loss, " | ".join(RETRIEVAL_LOSSES)
        )
        require(self.list_size >= 2, "list_size", self.list_size, "a whole number from 2, such as 5 or 10")
        require(self.precision in PRECISIONS, "precision", self.precision, " | ".join(PRECISIONS))
        require(self.rating_loss in RATING_LOSSES, "rating_loss", self.rating_loss, " | ".join(RATING_LOSSES))

    def resolve(self, facts: DataFacts) -> Recipe:
        """Decide every setting that was left open, for the data that will be trained on.

        Raises AmzrecError where settings and data do not fit.
        """
        plain = self.features == "ids"
        if self.rating_weight > 0 and self.retrieval_weight == 0 and not facts.rated:
            raise AmzrecError("the reviews have no stars: a rating cannot be learned. Set --retrieval-weight 1")
        if self.history == "sequence" and not facts.dated:
            raise AmzrecError("--history sequence needs the time of every review, which is missing here: leave it out")
        batch_size = self.batch_size or min(max(facts.fitted // LARGE_STEPS, BATCH), MOST)
        by_optimizer = 0.1 if self.optimizer == "adagrad" else 0.005 if batch_size <= BATCH else 0.003
        few = facts.candidates <= BATCH
        settings = {
            "rating_weight": self.rating_weight if facts.rated else 0.0,
            "own_vector": 1 if plain else max(self.own_vector, 1),
            "batch_size": batch_size,
            "learning_rate": self.learning_rate or by_optimizer,
            "negatives": ("full" if few else "batch") if self.negatives == "auto" else self.negatives,
            "mask_positives": not plain and self.history == "bag"
            if self.mask_positives is None
            else self.mask_positives,
            "equal_customers": (0.0 if plain else 0.25) if self.equal_customers is None else self.equal_customers,
            "svd_start": self.svd_start
            and not plain
            and self.retrieval_loss == "softmax"
            and self.retrieval_weight > 0,
            "refit": self.refit and facts.valid,
        }
        return Recipe.of(**{**dataclasses.asdict(self), **settings})


class DataFacts(NamedTuple):
    """What settings depend on in the data."""

    fitted: int  # reviews that the kept model is fitted on
    candidates: int  # products to retrieve from
    rated: bool  # whether any review has stars
    dated: bool  # whether every review has a time
    valid: bool  # whether there are reviews to choose epochs on


@dataclasses.dataclass(frozen=True)
class Recipe(TrainConfig):
    """A TrainConfig in which nothing is left open: what training reads, and what run.json records.

    `TrainConfig.resolve` makes it; resolving a Recipe again for the same data changes nothing, so a run can be
    repeated from its run.json.
    """

    learning_rate: float = 0.005  # per step
    mask_positives: bool = True  # whether a customer's other products are no negatives
    equal_customers: float = 0.25  # p: the softmax weighs a review by a customer of n reviews by n^-p

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that are trained."""
        weights = {"rating": self.rating_weight, "retrieval": self.retrieval_weight}
        return tuple(task for task, weight in weights.items() if weight > 0)

    @property
    def retrieval_dims(self) -> int:
        """Retrieval reads the dimensions 0 .. retrieval_dims of the towers: all with ids, else the first two thirds."""
        return self.dim if self.features == "ids" else self.dim - self.dim // 3

    @property
    def rating_start(self) -> int:
        """The rating reads the dimensions rating_start .. dim: all with ids, else the last two thirds."""
        return 0 if self.features == "ids" else self.dim // 3

    @property
    def lists(self) -> int:
        """How many reviews of one customer stand together in a batch: 1, or the length of the lists of a list loss."""
        return self.list_size if self.rating_loss != "squared" and self.rating_weight > 0 else 1
