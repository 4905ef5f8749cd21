"""Settings: what each allows, presets, JSON in and out."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Any, Literal

import pytest

from amzrec.config import PRESETS, DataFacts, PrepareConfig, TrainConfig
from amzrec.errors import AmzrecError
from amzrec.settings import SHOWN, Config, Group, above, at_least, at_most, below, settings_of

SIZES = Group("Sizes")


@dataclasses.dataclass(frozen=True)
class Garden(Config):
    """Settings of a garden."""

    beds: Annotated[int, SIZES, SHOWN, at_least(1), at_most(9)] = 4
    water: Annotated[float, SIZES, above(0), below(1)] = 0.5
    shade: Annotated[float | None, SIZES, at_least(0)] = None
    rows: Annotated[tuple[int, ...], SIZES, at_least(2)] = (3, 5)
    soil: Annotated[Literal["sand", "loam"], SIZES] = "loam"
    fence: bool = True
    owner: str = "Ada"


def test_a_field_says_in_its_annotation_what_a_setting_is() -> None:
    beds = settings_of(Garden)["beds"]
    assert (beds.kind, beds.default, beds.optional, beds.group, beds.shown) == (int, 4, False, "Sizes", True)
    shade = settings_of(Garden)["shade"]
    assert (shade.kind, shade.optional, shade.shown) == (float, True, False)
    assert settings_of(Garden)["soil"].choices == ("sand", "loam")
    assert settings_of(Garden)["rows"].kind is tuple


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"beds": 0}, "--beds is 0; allowed: a whole number, at least 1 and at most 9, such as 4"),
        ({"beds": 10}, "--beds is 10; allowed: a whole number, at least 1 and at most 9, such as 4"),
        ({"beds": 2.0}, "--beds is 2.0; allowed: a whole number, at least 1 and at most 9, such as 4"),
        ({"beds": True}, "--beds is True; allowed: a whole number, at least 1 and at most 9, such as 4"),
        ({"beds": None}, "--beds is None; allowed: a whole number, at least 1 and at most 9, such as 4"),
        ({"water": 0}, "--water is 0; allowed: a number, above 0 and below 1, such as 0.5"),
        ({"water": float("nan")}, "--water is nan; allowed: a number, above 0 and below 1, such as 0.5"),
        ({"shade": -1}, "--shade is -1; allowed: a number, at least 0"),
        ({"shade": float("inf")}, "--shade is inf; allowed: a number, at least 0"),
        ({"rows": (2, 1)}, "--rows is (2, 1); allowed: whole numbers, each at least 2, such as 3,5"),
        ({"rows": 7}, "--rows is 7; allowed: whole numbers, each at least 2, such as 3,5"),
        ({"soil": "mud"}, "--soil is 'mud'; allowed: sand | loam"),
        ({"soil": ["mud"]}, "--soil is ['mud']; allowed: sand | loam"),
        ({"fence": 1}, "--fence is 1; allowed: true or false, such as true"),
        ({"owner": 3}, "--owner is 3; allowed: text, such as Ada"),
    ],
)
def test_a_value_that_is_not_allowed_names_flag_value_and_what_is(values: dict[str, Any], message: str) -> None:
    with pytest.raises(AmzrecError) as error:
        Garden(**values)
    assert str(error.value) == message


def test_whole_numbers_are_numbers_and_none_is_allowed_where_it_may_be_left_open() -> None:
    assert Garden(shade=2).shade == 2
    assert Garden(shade=None).shade is None
    assert Garden(rows=()).rows == ()


@pytest.mark.parametrize(
    ("text", "value"), [("3", 3), ("3,5,7", (3, 5, 7)), ("", ()), ("0.25", 0.25), ("sand", "sand")]
)
def test_what_is_typed_is_read_by_the_type_of_the_field(text: str, value: object) -> None:
    name = {int: "beds", tuple: "rows", float: "water", str: "soil"}[type(value)]
    assert settings_of(Garden)[name].parse(text) == value


def test_a_word_where_a_number_belongs_says_what_is_allowed() -> None:
    with pytest.raises(
        AmzrecError, match="--beds is 'many'; allowed: a whole number, at least 1 and at most 9, such as 4"
    ):
        settings_of(Garden)["beds"].parse("many")


# --- amzrec's own settings


@pytest.mark.parametrize(
    "values",
    [
        {"rating_weight": -1.0},
        {"epochs": 0},
        {"dim": 2},
        {"head": (0,)},
        {"batch_size": -1},
        {"learning_rate": 0.0},
        {"average": 1.0},
        {"mask": 1.0},
        {"equal_customers": 1.5},
        {"temperature": 0.0},
        {"list_size": 1},
        {"negatives": "all"},
        {"precision": "float16"},
    ],
)
def test_training_refuses_what_cannot_be_trained_with(values: dict[str, Any]) -> None:
    with pytest.raises(AmzrecError, match="; allowed: "):
        TrainConfig(**values)


@pytest.mark.parametrize(
    "values",
    [{"test": -0.1}, {"test": 1.0}, {"valid": 1.0}, {"min_reviews": -1}, {"max_rejects": 1.5}, {"split": "half"}],
)
def test_preparing_refuses_what_cannot_be_split(values: dict[str, Any]) -> None:
    with pytest.raises(AmzrecError, match="; allowed: "):
        PrepareConfig(**values)


def test_settings_that_contradict_each_other_say_what_to_type() -> None:
    with pytest.raises(AmzrecError, match="both 0: nothing to learn"):
        TrainConfig(rating_weight=0, retrieval_weight=0)
    with pytest.raises(AmzrecError, match="--history sequence needs --features full"):
        TrainConfig(history="sequence", features="ids")
    with pytest.raises(AmzrecError, match="add --test-source FILE"):
        PrepareConfig(split="given")
    with pytest.raises(AmzrecError, match="--test 0 holds out no test reviews, but --split given"):
        PrepareConfig(split="given", test=0, test_source="u1.test")
    with pytest.raises(AmzrecError, match="--test-source needs --split given"):
        PrepareConfig(test_source="u1.test")


def test_settings_go_to_json_and_back() -> None:
    config = TrainConfig.of(preset="ids", head=[8, 4], learning_rate=0.01)
    assert TrainConfig.of(**json.loads(json.dumps(config.to_json()))) == config


def test_an_unknown_key_names_the_nearest_one() -> None:
    with pytest.raises(AmzrecError, match=r"unknown setting 'epoch'; did you mean 'epochs'\? \(allowed: preset, "):
        TrainConfig.of(epoch=3)


# --- presets


def test_the_presets_are_those_that_the_field_allows() -> None:
    assert tuple(PRESETS) == settings_of(TrainConfig)["preset"].choices


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_fills_in_its_settings_and_is_recorded(name: str) -> None:
    config = TrainConfig.of(preset=name)
    assert config.to_json() == TrainConfig().to_json() | PRESETS[name] | {"preset": name}


def test_the_full_preset_is_the_defaults() -> None:
    assert TrainConfig.of(preset="full") == TrainConfig()


def test_what_is_given_wins_over_the_preset() -> None:
    config = TrainConfig.of(preset="ids", optimizer="adam")
    assert (config.features, config.optimizer, config.dim) == ("ids", "adam", 32)


def test_a_preset_among_changes_changes_what_it_fills_in() -> None:
    config = TrainConfig(epochs=3, dim=9).replace(preset="ids")
    assert (config.epochs, config.dim, config.features) == (3, 32, "ids")


def test_a_preset_leaves_nothing_of_the_one_before() -> None:
    for before in PRESETS:
        for after in PRESETS:
            assert TrainConfig.of(preset=before).replace(preset=after) == TrainConfig.of(preset=after)


def test_other_changes_leave_what_the_preset_filled_in() -> None:
    config = TrainConfig.of(preset="clicks").replace(epochs=3)
    assert (config.preset, config.rating_weight, config.epochs) == ("clicks", 0, 3)


def test_the_constructor_does_not_take_a_preset_that_it_would_not_fill_in() -> None:
    with pytest.raises(TypeError, match="preset"):
        TrainConfig(preset="ids")  # type: ignore[call-arg]


def test_an_unknown_preset_says_which_there_are() -> None:
    with pytest.raises(AmzrecError, match=r"--preset is 'id'; allowed: full \| ids \| sequence \| clicks"):
        TrainConfig.of(preset="id")


# --- what the data decide

FACTS = DataFacts(fitted=50_000, candidates=1_000, rated=True, dated=True, valid=True)


@pytest.mark.parametrize(
    ("reviews", "batch_size", "learning_rate"),
    [(1, 8192, 0.005), (204_799, 8192, 0.005), (400_000, 16_000, 0.003), (5_000_000, 65_536, 0.003)],
)
def test_steps_grow_with_the_reviews_and_large_steps_are_smaller(
    reviews: int, batch_size: int, learning_rate: float
) -> None:
    recipe = TrainConfig().resolve(FACTS._replace(fitted=reviews))
    assert (recipe.batch_size, recipe.learning_rate) == (batch_size, learning_rate)


@pytest.mark.parametrize(
    ("fitted", "given", "read"), [(100, 0, 262_144), (400_000, 0, 512_000), (10**8, 0, 2**21), (100, 7, 7)]
)
def test_a_step_reads_more_of_histories_where_it_is_large(fitted: int, given: int, read: int) -> None:
    recipe = TrainConfig(history_budget=given).resolve(FACTS._replace(fitted=fitted))
    assert recipe.history_budget == read


@pytest.mark.parametrize(
    ("fitted", "stars_per_row", "read", "compared"),
    [(1_999_999, 7, 2**21, 8192), (2_000_000, 7, 2**19, 4096), (2_000_000, 16, 2**21, 4096), (10**8, 0, 2**21, 4096)],
)
def test_from_two_million_reviews_on_there_are_fewer_negatives_and_of_short_histories_less_is_read(
    fitted: int, stars_per_row: float, read: int, compared: int
) -> None:
    facts = FACTS._replace(fitted=fitted, stars_per_row=stars_per_row)
    recipe = TrainConfig().resolve(facts)
    assert (recipe.batch_size, recipe.history_budget, recipe.compared) == (65_536, read, compared)
    assert recipe.resolve(facts) == recipe
    assert TrainConfig(compared=0).resolve(facts).compared == 0
    assert TrainConfig(history_budget=7).resolve(facts).history_budget == 7


@pytest.mark.parametrize(
    ("rows", "given", "dim"),
    [(4_000_000, None, 96), (6_000_000, None, 64), (12_000_000, None, 32), (10**9, None, 32), (10**9, 48, 48)],
)
def test_vectors_are_narrower_where_there_are_many(rows: int, given: int | None, dim: int) -> None:
    facts = FACTS._replace(rows=rows)
    recipe = TrainConfig(dim=given).resolve(facts)
    assert recipe.dim == dim
    assert recipe.own_vector == (5 if rows == 4_000_000 else 7 if rows == 6_000_000 else 10)
    assert recipe.resolve(facts) == recipe
    assert TrainConfig(own_vector=3).resolve(facts).own_vector == 3
    assert TrainConfig(features="ids").resolve(facts).own_vector == 1


def test_the_softmax_reads_the_whole_catalogue_while_it_is_small() -> None:
    assert TrainConfig().resolve(FACTS._replace(candidates=8_192)).negatives == "full"
    assert TrainConfig().resolve(FACTS._replace(candidates=8_193)).negatives == "batch"


@pytest.mark.parametrize(
    ("stars", "settings", "dim", "retrieves", "rates_from"),
    [
        (63.9, {}, 96, 64, 32),
        (64.0, {}, 128, 64, 64),
        (64.0, {"dim": 60}, 60, 30, 30),
        (64.0, {"overlap": True}, 96, 64, 32),
        (1.0, {"overlap": False}, 128, 64, 64),
        (99.0, {"retrieval_weight": 0}, 96, 64, 32),
        (99.0, {"rating_weight": 0}, 96, 64, 32),
        (99.0, {"history": "recent"}, 96, 64, 32),
        (99.0, {"features": "ids"}, 96, 96, 0),
    ],
)
def test_both_tasks_share_dimensions_unless_there_are_many_stars(
    stars: float, settings: dict[str, Any], dim: int, retrieves: int, rates_from: int
) -> None:
    recipe = TrainConfig(**settings).resolve(FACTS._replace(stars_per_row=stars))
    assert (recipe.dim, recipe.retrieval_dims, recipe.rating_start) == (dim, retrieves, rates_from)


@pytest.mark.parametrize(
    ("settings", "masked", "power", "rate"),
    [
        ({}, True, 0.25, 0.005),
        ({"history": "sequence"}, True, 0.25, 0.005),
        ({"history": "sequence", "rating_weight": 0}, True, 0.25, 0.01),
        ({"features": "ids", "optimizer": "adagrad"}, False, 0.0, 0.1),
    ],
)
def test_what_is_left_open_is_decided_by_the_other_settings(
    settings: dict[str, Any], masked: bool, power: float, rate: float
) -> None:
    recipe = TrainConfig(**settings).resolve(FACTS)
    assert (recipe.mask_positives, recipe.equal_customers, recipe.learning_rate) == (masked, power, rate)


def test_what_was_set_is_not_decided_again() -> None:
    settings = {"batch_size": 100, "learning_rate": 0.02, "negatives": "batch", "mask_positives": False}
    recipe = TrainConfig(**settings, equal_customers=1.0).resolve(FACTS)  # type: ignore[arg-type]
    assert {name: getattr(recipe, name) for name in settings} == settings
    assert recipe.equal_customers == 1


def test_reviews_without_stars_train_retrieval_alone_and_without_valid_nothing_is_refitted() -> None:
    recipe = TrainConfig().resolve(FACTS._replace(rated=False, valid=False))
    assert (recipe.tasks, recipe.refit) == (("retrieval",), False)


def test_settings_that_the_data_cannot_serve_are_refused() -> None:
    with pytest.raises(AmzrecError, match=r"no stars: a rating cannot be learned. Set --retrieval-weight 1"):
        TrainConfig(retrieval_weight=0).resolve(FACTS._replace(rated=False))
    with pytest.raises(AmzrecError, match="--history sequence needs the time of every review"):
        TrainConfig(history="sequence").resolve(FACTS._replace(dated=False))


@pytest.mark.parametrize("name", PRESETS)
def test_a_resolved_recipe_read_as_settings_resolves_to_itself(name: str) -> None:
    recipe = TrainConfig.of(preset=name).resolve(FACTS)
    again = TrainConfig.of(**recipe.to_json())
    assert again.resolve(FACTS) == recipe


@pytest.mark.parametrize("after", PRESETS)
def test_a_preset_after_a_resolved_recipe_leaves_nothing_of_its_preset(after: str) -> None:
    for before in PRESETS:
        repeated = TrainConfig.of(**TrainConfig.of(preset=before).resolve(FACTS).to_json())
        assert repeated.replace(preset=after).resolve(FACTS) == TrainConfig.of(preset=after).resolve(FACTS)
