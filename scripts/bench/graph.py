"""How many nodes the graph of a training step has, by kind, and which of them a GPU would hand back to the host.

    python scripts/bench/graph.py                        print the counts
    python scripts/bench/graph.py --out benchmarks/graph.md

Nodes of the functions that a step calls count as well, as often as they are called. No GPU is needed: the kernels that
TensorFlow was built with tell. A small generated dataset with dates and features; the counts do not depend on sizes.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from amzrec.config import TrainConfig
from amzrec.model.keras2 import import_tensorflow
from kernels import all_nodes, crossings, without_kernel
from synthetic import DAY, Vocabularies, attention_learner, learner, reviews
from tables import described_by, markdown, section

tf: Any = import_tensorflow()

STEPS: dict[str, dict[str, Any]] = {
    "full, batch": {"negatives": "batch"},
    "full, catalogue": {"negatives": "full"},
    "ids, batch": {"features": "ids", "negatives": "batch"},
    "ids, catalogue": {"features": "ids", "negatives": "full"},
    "sequence, catalogue": {"history": "sequence", "negatives": "full"},
    "recent, catalogue": {"history": "recent", "negatives": "full"},
}
OTHERS: dict[str, dict[str, Any]] = {  # what the steps above leave out; both phases of a training run the same steps
    "full, batch, bounded": {
        "negatives": "batch",
        "overlap": False,
        "compared": 16,
        "history_budget": 40,
        "hard_negatives": 5,
        "precision": "bfloat16",
    },
    "full, adagrad": {"negatives": "full", "optimizer": "adagrad", "rating_loss": "listmle"},
    "full, dot": {"negatives": "batch", "retrieval_loss": "dot", "rating_loss": "pairwise-hinge", "list_size": 2},
    "full, rating": {"retrieval_weight": 0.0, "rating_loss": "pairwise-logistic", "list_size": 2, "average": 0.0},
    "ids, adagrad": {"features": "ids", "optimizer": "adagrad", "negatives": "batch", "compared": 16},
    "sequence, batch": {"history": "sequence", "negatives": "batch", "overlap": False},
    "recent, batch": {"history": "recent", "negatives": "batch", "compared": 16},
    "recent, retrieval": {"history": "recent", "negatives": "full", "rating_weight": 0.0, "memory": False},
}
BEFORE = {  # counted in this way with amzrec 0.1.0
    "full, batch": 4120,
    "full, catalogue": 4041,
    "ids, batch": 930,
    "ids, catalogue": 923,
}
KINDS = 12  # the most frequent kinds of nodes that are listed


def traced(**settings: Any) -> Any:
    """The concrete function of a training step with Adam and these settings, on a small generated dataset."""
    some = reviews(300, 40, 30)
    dated = dataclasses.replace(some, timestamp=np.arange(300) * DAY)
    config = TrainConfig.of(**{"dim": 6, "head": (4,), "own_vector": 3, "batch_size": 64} | settings)
    make = attention_learner if settings.get("history") == "sequence" else learner
    ours = make(dated, Vocabularies(40, 30, features=True), config, half_life=None if "features" in settings else 30.0)
    signature = ours.step_columns.element_spec
    return tf.function(ours.model.train_step, autograph=False).get_concrete_function(signature)


def main() -> None:
    """Count and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="Markdown file whose section is replaced; default: print")
    arguments = parser.parse_args()
    rows, kinds = [], {}
    for name, settings in STEPS.items():
        step = traced(**settings)
        kinds[name] = Counter(node.op for node in all_nodes(step))
        now, missing = sum(kinds[name].values()), without_kernel(step)
        back, sizes = crossings(step)
        before = BEFORE.get(name)
        ratio = f"{now / before:.2f}" if before else ""
        counts = [str(sum(each.values())) for each in (missing, back, sizes)]
        rows.append([name, f"{before:,}" if before else "", f"{now:,}", ratio, *counts])
        print(f"{name}: without a GPU kernel {dict(missing)}; arrays that go back {dict(back)}; sizes {dict(sizes)}")
    head = ["step", "nodes in 0.1.0", "now", "ratio", "without GPU kernel", "arrays to the host", "sizes to the host"]
    frequent = [kind for kind, _ in sum(kinds.values(), Counter()).most_common(KINDS)]
    by_kind = [[name, *(f"{count[kind]:,}" for kind in frequent)] for name, count in kinds.items()]
    text = [described_by(__doc__), markdown(head, rows), markdown(["nodes of a kind", *frequent], by_kind)]
    section(arguments.out, "Graph of a training step", "\n\n".join(text))


if __name__ == "__main__":
    main()
