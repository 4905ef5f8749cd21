"""The settings of each stage: frozen dataclasses, checked at construction, dumped as JSON beside what they made.

The annotation of a field says what it allows and in which group `--help-all` shows it; the text below is its help.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

from amzrec.errors import AmzrecError
from amzrec.settings import SHOWN, Config, Group, above, at_least, at_most, below, flag, pairs_text, require

__all__ = [
    "PRESETS",
    "Config",
    "DataFacts",
    "PrepareConfig",
    "Recipe",
    "ServeConfig",
    "TrainConfig",
    "flag",
    "require",
]

DATA, MODEL, LOSSES = Group("Data"), Group("Model"), Group("Losses")
SERVICE = Group("Service")
NEGATIVES, REGULARISATION, OPTIMISER = Group("Negatives"), Group("Regularisation"), Group("Optimiser")
Share = Annotated[float, at_least(0), below(1)]
Seed = Annotated[int, at_least(0), below(2**32)]  # what the generators of NumPy and TensorFlow both take
EPOCHS = 40  # most of them, unless --epochs says so
SMALL_BATCH = 8192  # reviews per step unless there are so many reviews that larger steps learn more
LARGE_BATCH = 65_536  # most reviews per step that are chosen without --batch-size
LARGE_STEPS = 25  # steps per epoch between the two: on ML-1M 25 large steps learned more than 105 small ones (LOG.md)
HISTORY_READ, COMPARED = 32, 8192  # reviews of histories per review of a step; reviews whose products are negatives
LARGE_DATA, LARGE_COMPARED = 2_000_000, 4096  # from so many reviews on those of fewer are
SHORT = 16  # stars per customer and product below which it then reads fewer: long histories lose by it (LOG.md)
SHORT_READ = 8  # and how many
ORDER_BATCH = 2048  # reviews per step where each has a query of its own, with --history recent
MANY_STARS = 64  # reviews with stars per customer and product from which tasks that share dimensions disturb each other
IN_ORDER = ("recent", "sequence")  # the histories of which retrieval reads the last products alone
WIDE_ROWS = 4_000_000  # most customers and products whose vectors are as wide as quality asks
SECOND_HEAD = 16  # numbers of a vector that a second head reads alone (LOG.md, 2026-11-30)
OWN_VECTOR = 5  # reviews from which a row has a vector of its own; twice as many where there are very many rows
NARROWEST = 32  # numbers in a vector where there are very many of them
WHOLE_CATALOGUE = 8192  # most products against all of which each review is learned with --negatives auto


@dataclasses.dataclass(frozen=True)
class PrepareConfig(Config):
    """How a source becomes a dataset folder (the protocol of every figure that follows)."""

    format: Annotated[str | None, DATA] = None
    """Layout of the source, such as movielens-1m or table; without it, it is found from the content."""
    columns: Annotated[str | None, DATA, SHOWN] = None
    """Columns by name, or number from 0: customer=UserId,product=ItemId,stars=Score; also timestamp and title."""
    table: Annotated[str | None, DATA] = None
    """Table of reviews, where SOURCE is a database (postgresql://host/db, mysql://host/db, an SQLite file)."""
    query: Annotated[str | None, DATA] = None
    """Query that gives the reviews, where SOURCE is a database: "select user_id, product_id, stars from …"."""
    encoding: Annotated[str | None, DATA] = None
    """Encoding of text files, such as cp1252, latin-1 or utf-16; without it, it is found from the content."""
    delimiter: Annotated[str | None, DATA] = None
    """Character between the fields of text files, or blanks for runs of blanks; without it, it is found."""
    time_format: Annotated[str | None, DATA] = None
    """How times are written, such as %d/%m/%Y or %Y-%m-%d %H:%M, or seconds, days; without it, it is found."""
    stars_are: Annotated[Literal["stars", "counts", "clicks"] | None, DATA] = None
    """What the stars column holds: stars; counts, such as plays or hours, where every row is a click that weighs
    log(1 + count) in the loss of retrieval; or clicks, that all weigh the same. Without it, the values tell."""
    unrated: Annotated[str | None, DATA] = None
    """Values of the stars column that mean "not rated", such as -1 or 0,99; none: all values are stars."""
    titles: Annotated[str | None, DATA] = None
    """File that gives products titles and features by their id, such as meta_Electronics.jsonl.gz."""
    product_key: Annotated[Literal["auto", "id", "title", "parent"], DATA] = "auto"
    """What names a product: its id, title, or the parent id that variants share; auto: parent if there is one."""
    min_reviews: Annotated[int, DATA, at_least(0)] = 0
    """Keep only customers and products with at least so many reviews among those kept (k-core); 0 keeps all."""
    min_stars: Annotated[float, DATA] = 0.0
    """Stars from which a test review counts as wanted in the ranking figures; 0 counts every review."""
    split: Annotated[Literal["random", "per-customer", "temporal", "leave-last-out", "given"], DATA, SHOWN] = "random"
    """Test reviews: random of all or of each customer, the latest, each customer's last, or given in --test-source."""
    test: Annotated[Share, DATA] = 0.2
    """Share of the reviews that is held out to test on; 0 holds out none, to train on everything for production. With
    --split leave-last-out no share counts, but 0 does: each last review is valid; --split given refuses 0."""
    valid: Annotated[Share, DATA] = 0.1
    """Share of the remaining reviews that is held out to choose epochs on; 0 holds out none, all epochs are trained."""
    seed: Annotated[Seed, DATA] = 42
    """Seed of a random split: another number holds out other reviews."""
    test_source: Annotated[str | None, DATA] = None
    """File of the test reviews; goes with --split given."""
    catalogue: Annotated[Literal["train", "all"], DATA] = "train"
    """Products that may be recommended: those with a review in train, or all that the source lists, new ones too."""
    engine: Annotated[str, DATA] = "duckdb"
    """What reads and joins the reviews: duckdb, in this process, or spark, for text that one machine cannot hold."""
    spark_master: Annotated[str | None, DATA] = None
    """Cluster for --engine spark: spark://host:7077, yarn or local[4]; without it, Spark's own settings count."""
    max_rejects: Annotated[float, DATA, at_least(0), at_most(1)] = 0.05
    """Share of rows that may be rejected as broken; with more, nothing is written."""

    def __post_init__(self) -> None:
        if isinstance(self.columns, Mapping):  # as Python gives it; kept as it is typed
            object.__setattr__(self, "columns", pairs_text(self.columns))
        super().__post_init__()
        if self.table and self.query:
            raise AmzrecError("--table and --query are two ways to say what to read: give one of them")
        if self.split == "given" and self.test == 0:
            raise AmzrecError(
                "--test 0 holds out no test reviews, but --split given holds out those of --test-source: "
                "leave --test 0 out, or take --split random"
            )
        if self.split == "given" and not self.test_source:
            raise AmzrecError("--split given needs the file of test reviews: add --test-source FILE")
        if self.test_source and self.split != "given":
            raise AmzrecError(f"--test-source needs --split given; found --split {self.split}")

    def protocol(self) -> dict[str, Any]:
        """The part that decides which rows are compared: what `metrics.json` repeats as its protocol."""
        keys = ("split", "test", "valid", "seed", "product_key", "min_reviews", "min_stars", "catalogue")
        return {key: value for key, value in self.to_json().items() if key in keys}


PRESETS: dict[str, dict[str, Any]] = {  # where each --preset differs from the defaults; None: the data decide
    "full": {},
    "ids": {  # the towers of the TensorFlow Recommenders tutorials
        "features": "ids",
        "dim": 32,
        "second_head": 0,
        "own_vector": 1,
        "svd_start": False,
        "memory": False,
        "moment": False,
        "equal_customers": None,
        "optimizer": "adagrad",
        "learning_rate": None,
        "refit": False,
        "negatives": "batch",
        "mask_positives": None,
        "log_q": False,
    },
    "sequence": {"history": "sequence", "temperature": None, "batch_size": 0},
    "clicks": {"rating_weight": 0.0, "retrieval_weight": 1.0},
}


@dataclasses.dataclass(frozen=True)
class TrainConfig(Config):
    """What is learned and how; the defaults are those of the figures in docs/figures.md.

    `TrainConfig.of(preset="ids", dim=64)` fills in a preset: `preset` records which one the settings began with.
    """

    PRESETS = PRESETS

    preset: Annotated[Literal["full", "ids", "sequence", "clicks"], MODEL, SHOWN] = dataclasses.field(
        default="full", init=False
    )
    """Settings that go together: full, the defaults; ids, the towers of TensorFlow Recommenders' tutorials; sequence,
    to read products in their order; clicks, to learn without stars. A flag that is given wins over the preset."""
    features: Annotated[Literal["full", "ids"], MODEL] = "full"
    """What a vector is made of: ids, histories, popularity, biases, words and attributes (full), or ids alone."""
    dim: Annotated[int | None, MODEL, at_least(3)] = None
    """Numbers in a vector; without it 96, and 128 where the tasks share none; fewer where more than 4 million customers
    and products have reviews, so that they are as many in all, down to 32. With ids all retrieve and rate."""
    overlap: Annotated[bool | None, MODEL] = None
    """Let the first 2/3 of a vector retrieve and the last 2/3 rate, so that the tasks share a third; without, each has
    a half. By default so unless there are 64 reviews with stars for each customer and product: then sharing costs."""
    second_head: Annotated[int | None, MODEL, at_least(0)] = None
    """Numbers of a vector that a second head reads, beside those of --dim, to predict the stars as well, of which it
    counts 35 of 100; 0: one head. Without it 16, or 32 where the tasks share no numbers, and 0 with ids and from 2
    million reviews on that are fewer than 16 for each customer and product."""
    head: Annotated[tuple[int, ...], MODEL, at_least(1)] = (64,)
    """Widths of the hidden layers that predict the stars, such as 256,128; an empty list has none."""
    history: Annotated[Literal["auto", "bag", "recent", "sequence"], MODEL] = "auto"
    """How a customer's products are read: as a bag; for retrieval the last ones alone, each weighing by how many came
    after it (recent); those, and the last 100 through causal self-attention, of which each counts as valid says
    (sequence); auto: where valid shows that order tells what comes next, recent, or sequence if customers have more
    than 5 products on average, else a bag."""
    own_vector: Annotated[int | None, MODEL, at_least(0)] = None
    """Reviews from which a customer or product has an embedding of its own; with fewer, its history stands for it.
    Without it 5, and up to 10 where more than 4 million customers and products have reviews; with ids always 1."""
    memory: Annotated[bool, MODEL] = True
    """Remember which products go together, beside the vectors, where that ranks the validation reviews better."""
    moment: Annotated[bool, MODEL] = True
    """Let what a customer gave near a time move the stars of that time, where that lowers the error on valid."""
    svd_start: Annotated[bool, MODEL] = True
    """Start product vectors at singular vectors of the reviews, where that ranks valid better than popularity does."""

    rating_weight: Annotated[float, LOSSES, SHOWN, at_least(0)] = 1.0
    """How much the mean loss of the stars counts; 0 learns only what to retrieve."""
    retrieval_weight: Annotated[float, LOSSES, SHOWN, at_least(0)] = 1.0
    """How much the mean loss of retrieval counts; 0 learns only the stars."""
    rating_loss: Annotated[Literal["squared", "pairwise-hinge", "pairwise-logistic", "listmle"], LOSSES] = "squared"
    """What the stars minimise: squared error, or the order within lists of a customer's reviews (the others)."""
    list_size: Annotated[int, LOSSES, at_least(2)] = 5
    """Reviews in each list of a loss over lists; those of a customer that do not fill a list wait for another epoch."""
    retrieval_loss: Annotated[Literal["softmax", "dot"], LOSSES] = "softmax"
    """What retrieval minimises: a softmax over products, or (dot) squared error of q·v against the stars as 0..1."""
    temperature: Annotated[float | None, LOSSES, above(0)] = None
    """What the scores of the softmax are divided by at the start; --features full learns it from there. Without it,
    0.2, and with --history recent or sequence a fixed 1."""
    equal_customers: Annotated[float | None, LOSSES, at_least(0), at_most(1)] = None
    """Power p that weighs each of a customer's n reviews by 1/n^p in the softmax; without it, 0.25, and 0 with ids."""

    l2: Annotated[float, REGULARISATION, at_least(0)] = 3.0
    """Penalty per review on the squared vectors of ids and words, times 1 + l2-rare / (reviews that they have)."""
    l2_history: Annotated[float, REGULARISATION, at_least(0)] = 3.0
    """Penalty per review on the squared vectors that histories are sums of."""
    l2_rare: Annotated[float, REGULARISATION, at_least(0)] = 30.0
    """Reviews at which a vector's penalty is twice that of one with many; also the ridge on the biases of words."""
    history_dropout: Annotated[Share, REGULARISATION] = 0.1
    """Share of each history that is left out at random while training."""
    order_dropout: Annotated[Share, REGULARISATION] = 0.3
    """With --history recent, the share of the last products, and of the numbers of queries, that is left out so."""
    history_cap: Annotated[int, REGULARISATION, at_least(1)] = 1000
    """Most reviews of one history that training reads, drawn at random; answers read all."""
    history_budget: Annotated[int, REGULARISATION, at_least(0)] = 0
    """Most reviews that a step reads of all histories of its customers, and of its products; of long histories some are
    drawn anew in each step, and stand for the others. 0 takes 32 for each review of the step, or 262,144 if more, and
    8 for each from 2 million reviews on that are fewer than 16 for each customer and product."""
    mask: Annotated[Share, REGULARISATION] = 0.1
    """Share of reviews whose customer is hidden while training, so that new customers are answered well."""
    average: Annotated[Share, REGULARISATION] = 0.97
    """Share of the old average that each step keeps of the averaged weights of adam; 0 takes the last weights."""

    optimizer: Annotated[Literal["adagrad", "adam"], OPTIMISER] = "adam"
    """Rule of the steps: adam (lazy, with averaged weights), or adagrad as the tutorials have it."""
    learning_rate: Annotated[float | None, OPTIMISER, above(0)] = None
    """Size of the steps; without it, 0.005 for adam (0.003 with more than 8,192 reviews per step, 0.01 for retrieval
    alone with --history sequence), 0.1 for adagrad."""
    batch_size: Annotated[int, OPTIMISER, at_least(0)] = 0
    """Most reviews per step; 0 takes 8,192, or a 25th of more than 200,000 reviews, up to 65,536."""
    epochs: Annotated[int | None, OPTIMISER, SHOWN, at_least(1)] = None
    """Most passes over the reviews; each task keeps the epoch that is best on the validation reviews. Without it, 40,
    and with --from as many passes over what is new as take a tenth of a training from scratch."""
    patience: Annotated[int | None, OPTIMISER, at_least(1)] = None
    """Epochs without a better validation figure of either task after which training stops; without it, 6, and 3 where
    retrieval alone is learned with --history recent, which learns fast."""
    precision: Annotated[Literal["float32", "bfloat16"], OPTIMISER] = "float32"
    """Numbers in which training multiplies matrices: bfloat16 is for GPUs; tables, sums and answers stay float32."""
    refit: Annotated[bool, OPTIMISER] = True
    """Train once more on train and valid together, for the epochs that were found best."""
    seed: Annotated[Seed, OPTIMISER] = 42
    """Seed of weights, batches and masks: the same number gives the same model on the same machine."""

    negatives: Annotated[Literal["auto", "batch", "full"], NEGATIVES] = "auto"
    """Products a review is told from: those of its batch, or the full catalogue; auto: full up to 8,192 products."""
    compared: Annotated[int | None, NEGATIVES, at_least(0)] = None
    """With the products of the batch as negatives, the reviews whose products all reviews of the batch are told from;
    without it 8,192, and 4,096 from 2 million reviews on. 0 takes all, and what a review costs grows with the batch."""
    hard_negatives: Annotated[int, NEGATIVES, at_least(0)] = 0
    """Keep only so many negatives of each review, those with the best scores; 0 keeps all."""
    mask_positives: Annotated[bool | None, NEGATIVES] = None
    """Take a customer's other products out of the negatives; by default so, but not with ids."""
    log_q: Annotated[bool, NEGATIVES] = True
    """Correct for popular products being in batches more often (log q correction, Yi et al. 2019, eq. 3)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rating_weight == 0 and self.retrieval_weight == 0:
            raise AmzrecError("--rating-weight and --retrieval-weight are both 0: nothing to learn. Set one above 0")
        if self.history not in ("auto", "bag") and self.features == "ids":
            raise AmzrecError(f"--history {self.history} needs --features full: with ids a customer has no history")

    def resolve(self, facts: DataFacts) -> Recipe:
        """Decide every setting that was left open, for the data that will be trained on.

        Raises AmzrecError where settings and data do not fit together.
        """
        plain = self.features == "ids"
        if self.rating_weight > 0 and self.retrieval_weight == 0 and not facts.rated:
            raise AmzrecError("the reviews have no stars: a rating cannot be learned. Set --retrieval-weight 1")
        if self.history not in ("auto", "bag") and not facts.dated:
            raise AmzrecError(
                f"--history {self.history} needs the time of every review, which is missing here: leave it out"
            )
        by_data = min(max(facts.fitted // LARGE_STEPS, SMALL_BATCH), LARGE_BATCH)
        reads_order = self.history in IN_ORDER
        few = facts.candidates <= WHOLE_CATALOGUE * (2 if reads_order else 1)
        negatives = ("full" if few else "batch") if self.negatives == "auto" else self.negatives
        by_order = reads_order and negatives == "full"
        batch_size = self.batch_size or (ORDER_BATCH if by_order else by_data)
        by_optimizer = 0.1 if self.optimizer == "adagrad" else 0.005 if batch_size <= SMALL_BATCH else 0.003
        history = "bag" if self.history == "auto" else self.history
        rating_weight = self.rating_weight if facts.rated else 0.0
        if history == "sequence" and not rating_weight and self.optimizer == "adam":
            by_optimizer = 0.01  # half as many epochs for a bag that attention stands beside
        joint = rating_weight > 0 and self.retrieval_weight > 0 and history == "bag" and not plain
        overlap = not joint or facts.stars_per_row < MANY_STARS if self.overlap is None else self.overlap
        large = facts.fitted >= LARGE_DATA
        read = SHORT_READ if large and 0 < facts.stars_per_row < SHORT else HISTORY_READ
        second_head = (1 if overlap else 2) * SECOND_HEAD if rating_weight and read != SHORT_READ else 0
        compared = LARGE_COMPARED if large else COMPARED
        by_rows = min(max(OWN_VECTOR, OWN_VECTOR * facts.rows // WIDE_ROWS), 2 * OWN_VECTOR)
        settings = {
            "dim": self.dim or narrowed(96 if overlap else 128, facts.rows),
            "epochs": self.epochs or EPOCHS,
            "overlap": overlap,
            "second_head": 0 if plain else second_head if self.second_head is None else self.second_head,
            "history": history,
            "rating_weight": rating_weight,
            "own_vector": 1 if plain else max(by_rows if self.own_vector is None else self.own_vector, 1),
            "batch_size": batch_size,
            "history_budget": self.history_budget or read * max(batch_size, SMALL_BATCH),
            "learning_rate": self.learning_rate or by_optimizer,
            "negatives": negatives,
            "compared": compared if self.compared is None else self.compared,
            "mask_positives": not plain if self.mask_positives is None else self.mask_positives,
            "equal_customers": (0.0 if plain else 0.25) if self.equal_customers is None else self.equal_customers,
            "patience": self.patience or (3 if reads_order and not rating_weight else 6),
            "temperature": self.temperature or (1.0 if reads_order else 0.2),
            "memory": self.memory and not plain and (facts.valid or reads_order) and self.retrieval_weight > 0,
            "moment": self.moment and not plain and facts.valid and facts.dated and self.rating_weight > 0,
            "svd_start": self.svd_start
            and not plain
            and self.retrieval_loss == "softmax"
            and self.retrieval_weight > 0,
            "refit": self.refit and facts.valid,
        }
        return Recipe.of(**{**dataclasses.asdict(self), **settings})


def narrowed(dim: int, rows: int) -> int:
    """Return how many numbers the vectors of so many rows have: `dim`, or fewer, so that they are bounded in all."""
    return dim if rows <= WIDE_ROWS else max(NARROWEST, dim * WIDE_ROWS // rows // 8 * 8)


class DataFacts(NamedTuple):
    """What the settings that were left open depend on in the data."""

    fitted: int  # reviews that the kept model is fitted on
    candidates: int  # products to retrieve from
    rated: bool  # whether any review has stars
    dated: bool  # whether every review has a time
    valid: bool  # whether there are reviews to choose epochs on
    stars_per_row: float = 0.0  # reviews with stars for each customer and product that has any
    rows: int = 0  # customers and products that have reviews to learn from


@dataclasses.dataclass(frozen=True)
class Recipe(TrainConfig):
    """A TrainConfig in which nothing is left open: what training reads, and what run.json records.

    `TrainConfig.resolve` makes it; resolving a Recipe again for the same data changes nothing, so a run can be
    repeated from its run.json.
    """

    dim: int = 96
    own_vector: int = OWN_VECTOR
    epochs: int = EPOCHS
    overlap: bool = True
    second_head: int = 0
    history: Literal["bag", "recent", "sequence"] = "bag"
    learning_rate: float = 0.005
    temperature: float = 0.2
    patience: int = 6
    compared: int = COMPARED
    mask_positives: bool = True
    equal_customers: float = 0.25

    @property
    def tasks(self) -> tuple[str, ...]:
        """Return the tasks that are trained, those with a weight above 0: "rating", "retrieval" or both."""
        weights = {"rating": self.rating_weight, "retrieval": self.retrieval_weight}
        return tuple(task for task, weight in weights.items() if weight > 0)

    @property
    def retrieval_dims(self) -> int:
        """Return how many dimensions of a tower vector, the first ones, retrieval reads: 2 of 3, half, or all."""
        if self.features == "ids":
            return self.dim
        return self.dim - self.dim // 3 if self.overlap else self.dim // 2

    @property
    def width(self) -> int:
        """Return how many numbers a tower vector has: `dim`, and those that a second rating head reads alone."""
        return self.dim + self.second_head

    @property
    def heads(self) -> int:
        """Return how many heads predict the stars."""
        return 2 if self.second_head else 1

    @property
    def rating_start(self) -> int:
        """Return the first dimension of a tower vector that the rating reads: the last 2 of 3, half, or all."""
        if self.features == "ids":
            return 0
        return self.dim // 3 if self.overlap else self.dim // 2

    @property
    def reads_order(self) -> bool:
        """Tell whether retrieval reads the last products of a customer alone, and not its whole history as a bag."""
        return self.history in IN_ORDER

    @property
    def attends(self) -> bool:
        """Tell whether retrieval reads the order of products through attention as well."""
        return self.history == "sequence" and "retrieval" in self.tasks and self.retrieval_loss == "softmax"

    @property
    def may_read_order(self) -> bool:
        """Tell whether retrieval could be learned from the last products alone, if valid says so."""
        return self.features == "full" and "retrieval" in self.tasks and self.retrieval_loss == "softmax"

    @property
    def learns_votes(self) -> bool:
        """Tell whether a memory of what followed what is learned with: its votes are added in the softmax."""
        return self.memory and self.history == "recent" and self.retrieval_loss == "softmax"

    @property
    def reviews_together(self) -> int:
        """Return how many reviews of one customer stand together in a batch: 1, or as many as a list has."""
        return self.list_size if self.rating_loss != "squared" and self.rating_weight > 0 else 1


LOOPBACK = ("localhost", "127.0.0.1", "[::1]")  # what a machine calls itself


@dataclasses.dataclass(frozen=True)
class ServeConfig(Config):
    """How a run is served."""

    host: Annotated[str, SERVICE, SHOWN] = "127.0.0.1"
    """Address to listen on: 127.0.0.1 answers this machine alone, 0.0.0.0 everyone who reaches it."""
    port: Annotated[int, SERVICE, SHOWN, at_least(0), at_most(65_535)] = 8501
    """Port to listen on; 0 takes a free one, which is said."""
    token: Annotated[str | None, SERVICE, SHOWN] = None
    """Secret that every request must bear ("Authorization: Bearer TOKEN"); the variable AMZREC_TOKEN keeps it out of
    the list of processes. Without it nobody is asked."""
    events: Annotated[str, SERVICE, SHOWN] = "events.db"
    """SQLite file that keeps what customers do, made where there is none, or postgresql://user:password@host/database;
    none keeps nothing."""
    kinds: Annotated[str, SERVICE] = "view=0.2,cart=0.5,purchase=1,review=1"
    """Kinds of events, and what each counts beside a review, which counts 1."""
    also: Annotated[str | None, SERVICE, SHOWN] = None
    """Second run, which answers a share of the customers, so that two runs can be compared live."""
    share: Annotated[float, SERVICE, SHOWN, at_least(0), at_most(1)] = 0.1
    """Share of the customers that --also answers, always the same ones."""
    watch: Annotated[bool, SERVICE, SHOWN] = False
    """Look every second whether RUN, such as a symbolic link, leads to another run, and serve that one."""
    index: Annotated[Literal["auto", "exact", "scann"], SERVICE, SHOWN] = "auto"
    """How the best products are found: exact compares all, scann finds nearly all of them in large catalogues and is
    built once; auto is scann from 100,000 products on."""
    recall: Annotated[float, SERVICE, at_least(0.5), below(1)] = 0.98
    """Share of the best 10, and of the best 100 products that scann has to find; it is tuned to that on queries of the
    run's customers."""
    workers: Annotated[int, SERVICE, SHOWN, at_least(1), at_most(64)] = 1
    """Processes that answer, of which each keeps one core busy; they share the port, the run's files and the events."""
    most_k: Annotated[int, SERVICE, at_least(1)] = 1000
    """Most products that a request may ask for."""
    most_bytes: Annotated[int, SERVICE, at_least(1)] = 1 << 20
    """Largest body of a request, in bytes."""
    most_waiting: Annotated[int, SERVICE, at_least(1)] = 1000
    """Most questions that may wait for their answers; while there are more, requests are refused at once (503)."""
    allow_host: Annotated[str | None, SERVICE] = None
    """Other names, with commas between them, that requests may have in the header Host. A service of this machine alone
    answers localhost, 127.0.0.1 and [::1] only, so that no page of another site can ask it by a name of its own."""
    timeout: Annotated[float, SERVICE, above(0)] = 10.0
    """Seconds in which a request must have come, and in which it must be answered."""
    access_log: Annotated[bool, SERVICE] = True
    """Write one line of JSON per request to standard error."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.token is None or (self.token.strip() and self.token.isascii())), "token", "…", "ASCII text")
        self.weights()
        self.hosts()

    def hosts(self) -> frozenset[str] | None:
        """Return the names that requests may have in the header Host, in small letters; None: any."""
        names = [name.strip().lower() for name in (self.allow_host or "").split(",") if name.strip()]
        require(self.allow_host is None or bool(names), "allow_host", self.allow_host, "NAME,…, such as shop.local")
        for name in names:
            allowed = "names without http:// and without port, such as shop.local"
            require("/" not in name and (":" not in name.strip("[]")) == (name[0] != "["), "allow_host", name, allowed)
        here = self.host == "localhost" or self.host.startswith("127.") or self.host == "::1"
        return frozenset([*LOOPBACK, self.host.lower(), *names]) if here or names else None

    def weights(self) -> dict[str, float]:
        """Return what each kind of event counts."""
        found = {}
        for part in self.kinds.split(","):
            name, _, number = part.strip().partition("=")
            try:
                found[name] = float(number)
            except ValueError:
                found[name] = -1.0
            require(bool(name) and 0 <= found[name] <= 1000, "kinds", self.kinds, "NAME=NUMBER,… with numbers from 0")
        return found
