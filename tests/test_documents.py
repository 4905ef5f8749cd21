"""JSON files as typed documents: what is written is read again, and what is not understood is refused with a remedy."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from amzrec.errors import AmzrecError
from amzrec.store.dataset import DatasetInfo, Scale
from amzrec.store.documents import FORMAT, Document
from amzrec.store.run import RunInfo
from amzrec.store.vectors import VectorsIndex

PROTOCOL = {
    "split": "random",
    "test": 0.2,
    "valid": 0.1,
    "seed": 42,
    "product_key": "id",
    "min_reviews": 0,
    "min_stars": 0.0,
    "catalogue": "train",
}
RUN: dict[str, Any] = {  # as amzrec 0.1 wrote it
    "config": {"epochs": 2, "head": [64]},
    "trained": ["rating"],
    "protocol": PROTOCOL,
    "dataset": "/data",
    "fingerprint": "f",
    "source": "s",
    "fit_parts": ["train"],
    "best_epochs": {"rating": 1},
    "half_life": None,
    "trend": True,
    "svd_start": False,
    "seconds": 2,
    "versions": {"amzrec": "0.1.0"},
    "finished": 3.5,
}
HEAD = {
    "mean": 3.0,
    "low": 1.0,
    "high": 5.0,
    "a_customer": 0.5,
    "shrink_customer": 7.0,
    "temperature": 0.2,
    "history": "bag",
    "retrieval_dims": 4,
    "rating_start": 2,
    "fit_parts": [0],
}
DATASET: dict[str, Any] = {
    "source": "reviews.csv",
    "fingerprint": "f",
    "format": "csv",
    "columns": {"customer_id": "user"},
    "protocol": PROTOCOL,
    "stars": {"min": 1, "max": 5},
    "counts": {"read": 2, "kept": 1, "rejected": {"no customer": 1}, "train": 1},
    "warnings": ["careful"],
    "version": "0.1.0",
}


def refused(kind: type[Document], found: object, folder: Path) -> str:
    """The error for a file that holds this JSON."""
    file = folder / "document.json"
    file.write_text(json.dumps(found))
    with pytest.raises(AmzrecError) as caught:
        kind.read(file, "train again")
    assert str(file) in str(caught.value)
    assert "train again" in str(caught.value)
    return str(caught.value)


def test_documents_of_amzrec_0_1_are_still_read() -> None:
    run = RunInfo.of(RUN)
    assert (run.finished, run.seconds, run.fit_parts, run.trend) == (3.5, 2.0, ("train",), True)
    assert run.protocol is not None
    assert run.protocol.catalogue == "train"
    dataset = DatasetInfo.of(DATASET)
    assert (dataset.stars, dataset.counts.rejected) == (Scale(1.0, 5.0), {"no customer": 1})
    head = VectorsIndex.of({"files": {}, "layers": 0, "head": HEAD}).head
    assert (head.bias_weight, head.bias_shrinkage, head.fit_tags) == (0.5, 7.0, (0,))


def test_what_a_folder_of_amzrec_0_1_does_not_say_gets_a_default() -> None:
    run = RunInfo.of({"finished": 1.0})
    assert (run.fit_parts, run.trained, run.recipe) == (("train", "valid"), ("rating", "retrieval"), {})
    least = {"mean": None, "retrieval_dims": 4, "rating_start": 2}
    head = VectorsIndex.of({"files": {}, "layers": 0, "head": least}).head
    assert (head.history, head.fit_tags) == ("bag", (0, 1))


@pytest.mark.parametrize(
    "document", [RunInfo.of(RUN), DatasetInfo.of(DATASET), VectorsIndex.of({"files": {}, "layers": 0, "head": HEAD})]
)
def test_a_document_is_read_as_it_was_written(document: Document, tmp_path: Path) -> None:
    document.write(tmp_path / "document.json")
    written = json.loads((tmp_path / "document.json").read_text())
    assert written["format_version"] == FORMAT
    assert type(document).read(tmp_path / "document.json", "train again") == document


def test_an_unknown_key_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    said = refused(RunInfo, RUN | {"colour": "red"}, tmp_path)
    assert "colour is not known" in said
    assert "best_epochs" in said
    assert "--upgrade" in said
    assert "protocol.colour" in refused(RunInfo, RUN | {"protocol": PROTOCOL | {"colour": "red"}}, tmp_path)


def test_a_newer_format_says_how_to_get_on(tmp_path: Path) -> None:
    said = refused(RunInfo, {"format_version": FORMAT + 1, "anything": 1}, tmp_path)
    assert f"format {FORMAT + 1}" in said
    assert f"up to {FORMAT}" in said
    assert "pip install --upgrade amzrec" in said


def test_the_old_name_of_a_key_is_no_key_of_todays_format(tmp_path: Path) -> None:
    assert "a_customer" in refused(
        VectorsIndex, {"format_version": FORMAT, "files": {}, "layers": 0, "head": HEAD}, tmp_path
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"finished": "yesterday"}, "finished is 'yesterday', which is no float"),
        ({"finished": None}, "finished is None"),
        ({"trend": 1}, "trend is 1, which is no bool"),
        ({"seconds": True}, "seconds is True"),
        ({"fit_parts": "train"}, "fit_parts is 'train'"),
        ({"fit_parts": ["train", 1]}, r"fit_parts[1] is 1"),
        ({"best_epochs": {"rating": "one"}}, "best_epochs.rating is 'one'"),
        ({"protocol": {"split": "random"}}, "protocol.product_key is missing"),
        ({"format_version": "one"}, "format_version is 'one'"),
    ],
)
def test_a_value_of_another_type_is_damage(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    found = refused(RunInfo, RUN | change, tmp_path)
    assert "damaged" in found
    assert said in found


@pytest.mark.parametrize("found", [[], 1, "text", None, {}])
def test_what_is_no_object_or_lacks_a_key_is_damage(found: object, tmp_path: Path) -> None:
    assert "damaged" in refused(RunInfo, found, tmp_path)


def test_half_a_file_and_no_file_are_damage(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    for _ in range(2):
        with pytest.raises(AmzrecError, match=r"run\.json is damaged"):
            RunInfo.read(file, "train again")
        file.write_text('{"finished": ')


def test_tasks_without_training_are_named_unless_the_towers_are_shared() -> None:
    run = RunInfo.of(RUN)
    assert run.untrained == ["retrieval"]
    assert dataclasses.replace(run, recipe={"features": "ids"}).untrained == []
