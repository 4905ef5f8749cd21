"""Pictures are drawn from what runs leave behind, also where that is little."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from amzrec.errors import AmzrecError
from amzrec.evaluation import pictures

HISTORY = """phase,epoch,rating_loss,rating_constant,retrieval_loss,retrieval_constant,valid_rmse,valid_ndcg
select,1,0.9,1.2,6.5,7.4,0.95,0.2
select,2,0.8,1.2,6.3,7.4,0.94,0.21
refit,1,0.9,1.2,6.5,7.4,,
"""


def test_training_curves_are_drawn_from_the_history(tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text(HISTORY)
    drawn = pictures.draw_history(tmp_path, tmp_path)
    assert drawn == tmp_path / "training.png"
    assert drawn.read_bytes().startswith(b"\x89PNG")


def test_a_history_without_validation_figures_is_drawn_too(tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text("phase,epoch,rating_loss,rating_constant\nselect,1,0.9,1.2\n")
    assert pictures.draw_history(tmp_path, tmp_path) is not None


def test_no_history_is_no_picture(tmp_path: Path) -> None:
    assert pictures.draw_history(tmp_path, tmp_path) is None
    (tmp_path / "history.csv").write_text("phase,epoch\n")
    assert pictures.draw_history(tmp_path, tmp_path) is None


@pytest.mark.parametrize("epoch", ["one", "", '"' + 140_000 * "x"])
def test_a_history_that_is_no_table_of_epochs_is_an_error_of_one_line(tmp_path: Path, epoch: str) -> None:
    (tmp_path / "history.csv").write_text(f"phase,epoch,rating_loss\nselect,{epoch}")
    with pytest.raises(AmzrecError, match=r"history.csv cannot be read \(.*\): remove that file, or train again$"):
        pictures.draw_history(tmp_path, tmp_path)


def test_no_candidates_are_no_picture(tmp_path: Path) -> None:
    assert pictures.draw_coverage(np.zeros(0, np.int64), np.zeros(0, np.int64), {}, tmp_path) is None


def test_a_comparison_of_clicks_alone_has_the_retrieval_panel_only(tmp_path: Path) -> None:
    top = {"retrieval": {"top_1": 0.1, "top_10": 0.2}}
    facts = {"test_rows": 2, "candidates": 3, "split": "random", "seed": 1}
    document = {"models": {"joint": top}, "baselines": {"popularity": top}, "differences": {}, "protocol": facts}
    assert pictures.draw_comparison(document, tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
