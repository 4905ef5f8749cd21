"""The model card: the figures of metrics.json, the line that trains the run again, two files that are safe to show."""

from __future__ import annotations

import dataclasses
import html.parser
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import amzrec
from amzrec.cli.app import app
from amzrec.commands.card import dataset_info
from amzrec.commands.evaluate import evaluate
from amzrec.config import DataFacts, PrepareConfig, TrainConfig
from amzrec.errors import AmzrecError
from amzrec.page.blocks import Block, Heading, Items, Lines, Paragraph, Table, html_page, markdown
from amzrec.page.files import hash_of
from amzrec.page.modelcard import verdict
from amzrec.store.dataset import open_dataset
from amzrec.store.ownership import is_card
from amzrec.store.recipe import command_of
from amzrec.store.run import Ancestor, Run, RunInfo
from runs import parity_vectors, random_vectors, write_run

FACTS = DataFacts(fitted=1_000, candidates=50, rated=True, dated=True, valid=True)
HOSTILE = [
    "<script>owned()</script>",
    "a | b",
    "*bold* _it_ `code` [link](x) ![i](x)",
    "https://evil.example www.evil.example",
    "# no heading",
    "1. no list",
    "- no list",
    "back\\slash \\| ~~gone~~ $x$ &amp;",
    "'\"",
    "``` fence",
]


@pytest.fixture
def run(checkerboard: Path, tmp_path: Path) -> Run:
    dataset = open_dataset(checkerboard)
    recipe = TrainConfig().resolve(FACTS).to_json()
    vectors = random_vectors(dataset, np.random.default_rng(5))
    return write_run(tmp_path / "run", dataset, vectors, recipe=recipe, source="shops/reviews.csv", seconds=3.0)


# --- what stands in it


def test_figures_intervals_baselines_and_slices_are_those_of_metrics_json(run: Run, tmp_path: Path) -> None:
    measured = evaluate(run)
    text, page = (file.read_text() for file in amzrec.card(run, tmp_path / "card.md"))
    model, gap = measured["model"], measured["differences"]["popularity"]["ranking"]["ndcg@10"]
    row = next(line for line in text.splitlines() if line.startswith("| model |"))
    for value in (model["rating"]["rmse"], model["retrieval"]["top_10"], model["ranking"]["ndcg@10"]):
        assert f"{value:.4f}" in row
    assert f"{gap['difference']:+.4f} ({gap['low']:+.4f} to {gap['high']:+.4f})" in text
    assert f"| product bias | {measured['baselines']['product_bias']['rating']['rmse']:.4f} |" in text
    known = model["slices"]["known_customer"]
    assert re.search(rf"\| known customer \| {known['rows']} \| {known['rating']['rmse']:.4f} \(", text)
    sections = ["Data", "Protocol", "Figures", "Slices", "What is recommended", "Limits", "Training"]
    for section in [*sections, "How to reproduce"]:
        assert f"\n## {section}\n" in text
        assert f"<h2>{section}</h2>" in page
    assert "| rows read | 240 |" in text  # 20 customers with 10 products of the own parity and 2 of the other
    assert "| reviews fitted (train and valid) | 220 |" in text  # all but one test review each
    assert "u07" not in text + page  # no customer
    assert str(tmp_path) not in text + page


def test_a_verdict_reads_the_interval_and_knows_which_figures_are_better_when_small() -> None:
    gaps = {
        "RMSE": {"low": -0.2, "high": -0.1},
        "top-10": {"low": -0.1, "high": 0.1},
        "NDCG@10": {"low": -0.2, "high": -0.1},
    }
    assert verdict("x", gaps) == "Against x: better in RMSE; worse in NDCG@10; no clear difference in top-10."


def test_a_part_on_which_a_baseline_is_ahead_is_a_limit(checkerboard: Path, tmp_path: Path) -> None:
    dataset = open_dataset(checkerboard)
    weak = write_run(tmp_path / "weak", dataset, random_vectors(dataset, np.random.default_rng(5)))
    evaluate(weak)
    assert re.search(r"- On the part known customer a baseline is ahead in .*RMSE", cards(weak, tmp_path)[0])
    strong = write_run(tmp_path / "strong", dataset, parity_vectors(dataset))
    evaluate(strong)
    ahead = re.findall(r"- On the part known customer a baseline is ahead in (.*)\.", cards(strong, tmp_path)[0])
    assert "top" not in "".join(ahead)  # its right product is the first of all


def cards(run: Run, folder: Path) -> list[str]:
    """The Markdown and the HTML of a run's card."""
    return [file.read_text() for file in amzrec.card(run, folder / "card.html", overwrite=True)]


def test_a_run_without_figures_or_dataset_says_so(run: Run, tmp_path: Path) -> None:
    text, _ = cards(run, tmp_path)
    assert f"Type: amzrec evaluate {run.path}".replace("_", "\\_") in text
    assert "It has not been measured" in text
    assert "## Figures" not in text
    assert dataset_info(run) is not None
    gone = dataclasses.replace(run, info=dataclasses.replace(run.info, dataset=str(tmp_path / "gone")))
    assert dataset_info(gone) is None
    other = dataclasses.replace(run, info=dataclasses.replace(run.info, fingerprint="other"))
    assert dataset_info(other) is None
    assert "rows read" not in cards(gone, tmp_path)[0]


def test_what_was_not_trained_and_what_came_later_is_told(checkerboard: Path, tmp_path: Path) -> None:
    dataset = open_dataset(checkerboard)
    update = {"source": "secret folder/new $1.csv", "reviews": 7}
    before = Ancestor(run="a", identity="i", finished=1, source="secret folder/old.csv", fingerprint=None, reviews=1234)
    facts: dict[str, Any] = {"trained": ("retrieval",), "updates": (update,), "ancestors": (before,)}
    clicks = write_run(tmp_path / "c", dataset, parity_vectors(dataset), **facts)
    text = cards(clicks, tmp_path)[0]
    assert "A recommender that finds products for a customer, learned" in text
    assert "It was not trained for rating" in text
    assert "7 reviews of new \\$1.csv were added without training" in text
    assert "it goes on from a run that was trained on 1,234 reviews of old.csv" in text
    assert " --from RUN\namzrec update RUN 'new $1.csv' --run NEW\n" in text
    assert "secret folder" not in text


# --- the line that trains it again


@pytest.mark.parametrize(
    ("prepare", "train"),
    [
        (PrepareConfig(), TrainConfig()),
        (PrepareConfig(test=0.3, seed=7, product_key="title", min_stars=4.0), TrainConfig.of(preset="ids", dim=48)),
        (PrepareConfig(split="temporal"), TrainConfig(head=(), epochs=3, learning_rate=0.0123, memory=False, seed=5)),
        (PrepareConfig(), TrainConfig.of(preset="clicks", rating_weight=0.5)),
    ],
)
def test_the_line_to_type_gives_the_recipe_and_the_split_again(
    run: Run, monkeypatch: pytest.MonkeyPatch, prepare: PrepareConfig, train: TrainConfig
) -> None:
    recipe = train.resolve(FACTS)
    info = dataclasses.replace(run.info, recipe=recipe.to_json(), protocol=protocol_of(prepare))
    words = shlex.split(" ".join(command_of(dataclasses.replace(run, info=info), {"customer_id": "a b", "stars": "s"})))
    found = dict[str, Any]()

    def verb(source: Any, run: Any, config: Any, **settings: Any) -> None:
        found.update(source=source, config=config, prepare=settings["prepare"])
        raise AmzrecError("seen")

    monkeypatch.setattr("amzrec.commands.train.train", verb)
    done = CliRunner().invoke(app, words[1:])
    assert "seen" in done.output, done.output
    assert found["source"] == "reviews.csv"
    assert found["config"].resolve(FACTS) == recipe
    assert found["config"].preset == train.preset
    assert found["prepare"] == prepare.replace(columns="customer=a b,stars=s")


def protocol_of(config: PrepareConfig) -> Any:
    return RunInfo.of({"finished": 1.0, "protocol": config.protocol(), "format_version": 1}).protocol


def test_the_embedded_sample_needs_no_name_and_a_file_of_tests_is_asked_for(run: Run) -> None:
    info = dataclasses.replace(run.info, source="/opt/amzrec/data/sample")
    words = command_of(dataclasses.replace(run, info=info))
    assert words[:3] == ["amzrec", "train", "--product-key"]  # the checkerboard was prepared with product ids as keys
    assert words[words.index("--split") + 1 :][:3] == ["given", "--test-source", "FILE"]


# --- two files


class Reader(html.parser.HTMLParser):
    """The text of every element, in order, and the tags that were opened."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(data)


TAGS = {"h1", "p", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "pre", "code"}
BLOCKS: list[Block] = [
    Heading(HOSTILE[0], 1),
    *map(Paragraph, HOSTILE),
    Items(HOSTILE),
    Table(["name", "n"], [[text, None] for text in HOSTILE]),
    Lines(HOSTILE),
]


def test_hostile_text_is_only_text_in_html() -> None:
    page = html_page(BLOCKS, HOSTILE[0], "mark")
    reader = Reader()
    reader.feed(page)
    assert set(reader.tags) <= {"html", "head", "meta", "title", "style", "body", "main", "article", "div", *TAGS}
    for text in HOSTILE:
        assert sum(text == shown for shown in reader.texts) >= 3, text
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.S)
    assert f"default-src 'none'; style-src '{hash_of(style)}'" in page
    assert not re.search(r"(src|href)=", page)


def test_hostile_text_is_only_text_in_markdown() -> None:
    markdown_it = pytest.importorskip("markdown_it")
    parser = markdown_it.MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    reader = Reader()
    reader.feed(parser.render(markdown(BLOCKS, "mark")))
    assert set(reader.tags) <= TAGS
    for text in HOSTILE:
        assert sum(text == shown for shown in reader.texts) >= 3, text
    assert "\n".join(HOSTILE) + "\n" in reader.texts


def test_cards_are_known_by_their_marks_and_replaced_only_when_asked(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "card.html"
    done = CliRunner().invoke(app, ["card", str(run.path), "--out", str(out)])
    assert (done.exit_code, done.output) == (0, f"{out.with_suffix('.md')}\n{out}\n")
    assert is_card(out)
    assert is_card(out.with_suffix(".md"))
    with pytest.raises(AmzrecError, match=r"card\.md exists already.*--overwrite"):
        amzrec.card(run, out)
    amzrec.card(run, out, overwrite=True)
    with pytest.raises(AmzrecError, match=r"let it end in \.md or \.html"):
        amzrec.card(run, tmp_path / "card.pdf")
    (tmp_path / "mine.md").write_text("# My notes")
    with pytest.raises(AmzrecError, match="did not write it"):
        amzrec.card(run, tmp_path / "mine.html", overwrite=True)
    assert not (tmp_path / "mine.html").exists()
