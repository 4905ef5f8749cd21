"""What attention has learned, beside what the towers have learned of retrieval: one inner product of both."""

from __future__ import annotations

import dataclasses

import numpy as np

from amzrec.arrays import Array, Floats
from amzrec.model.attention import AttentionModel
from amzrec.store.attention import Attention
from amzrec.training.attention import AttentionLearner
from amzrec.training.snapshot import RetrievalSnapshot, Snapshot, all_rows, with_cold_products
from amzrec.training.watch import WatchedSystem

READER = tuple(field.name for field in dataclasses.fields(Attention))


@dataclasses.dataclass(frozen=True)
class AttentionSnapshot(Snapshot):
    """What attention has learned, in d numbers per product."""

    queries: Floats  # [C + 1, d + 1] what is read of each customer; the last column is 1
    candidates: Floats  # [N + 1, d + 1] the last column is the popularity of the product as of now
    products: Floats  # [N + 1, d] what is read of a product in a history; 0 for those without reviews
    within: Floats  # this one and those below: see Attention
    near: Floats
    out: Floats
    wide: Floats
    wide_bias: Floats
    narrow: Floats
    narrow_bias: Floats
    norms: Floats

    @classmethod
    def of(cls, learner: AttentionLearner) -> AttentionSnapshot:
        """Take the arrays from which retrieval would be answered now, with the averaged weights."""
        with learner.averaged():
            customers, products = all_rows(learner)
            model: AttentionModel = learner.model
            queries, candidates = learner.retrieval_vectors(
                learner.retrieval_queries(customers), learner.retrieval_candidates(products), products
            )
            reader = model.encoder.attention()
            return cls(
                queries=queries,
                candidates=with_cold_products(learner, candidates, np.zeros_like(candidates)),
                products=learner.known_products(),
                **{name: getattr(reader, name) for name in READER},
            )

    def reader(self, share: float, temperature: float) -> Attention:
        """Return what reads histories where attention has this share of the score; see `beside`.

        `temperature` is what a query is divided by when it is made anew.
        """
        arrays: dict[str, Array] = {name: getattr(self, name) for name in READER}
        return Attention(**arrays).scaled(np.sqrt(share) * temperature)

    def beside(self, towers: RetrievalSnapshot, share: float) -> RetrievalSnapshot:
        """Put these dimensions behind those of the towers: the score is a mean of both, `share` of which is this one's.

        Queries and candidates have the root of the share each, so that products are alike by the same mean. With a
        share of 1 the towers are left out.
        """
        whole = with_share(towers, np.sqrt(1 - share), share < 1)
        mine, root = self.products.shape[1], np.float32(np.sqrt(share))
        candidates = self.candidates[:, :mine] * root
        nobody, nothing = (np.zeros((len(rows), mine), np.float32) for rows in (self.queries, self.candidates))
        added = {
            "query_base": nobody,
            "history_bag": self.products,
            "history_residual": nothing,
            "rater_bag": nobody,
            "rater_residual": nobody,
            "product_base": candidates,
            "product_level": nothing,
        }
        bias = (1 - share) * towers.candidates[:, -1:] + share * self.candidates[:, -1:]
        return dataclasses.replace(
            whole,
            **{name: np.concatenate([getattr(whole, name), array], axis=1) for name, array in added.items()},
            queries=np.concatenate(
                [whole.queries[:, :-1], self.queries[:, :mine] * root, self.queries[:, -1:]], axis=1
            ),
            candidates=np.concatenate([whole.candidates[:, :-1], candidates, bias], axis=1).astype(np.float32),
        )


def with_share(towers: RetrievalSnapshot, root: float, kept: bool) -> RetrievalSnapshot:
    """Return the towers with queries and candidates times `root`; without any dimensions where they are not `kept`."""
    dims, factor = (None if kept else 0), np.float32(root)
    scaled = ("history_bag", "product_base", "product_level")
    plain = ("query_base", "history_residual", "rater_bag", "rater_residual")
    arrays = {name: getattr(towers, name)[:, :dims] * (factor if name in scaled else 1) for name in (*scaled, *plain)}
    ends = {
        name: np.concatenate([getattr(towers, name)[:, :-1][:, :dims] * factor, getattr(towers, name)[:, -1:]], axis=1)
        for name in ("queries", "candidates")
    }
    weights = towers.recent_weights if kept else towers.recent_weights[:0]
    return dataclasses.replace(towers, **arrays, **ends, recent_weights=weights)


def mixed(towers: WatchedSystem, attention: WatchedSystem, share: float) -> WatchedSystem:
    """Return a system whose scores are a mean of both, `share` of which is attention's."""
    sides = ((towers, 1 - share), (attention, share))
    queries = [system.queries[:, :-1] for system, part in sides if part]
    candidates = [system.candidates[:, :-1] * np.float32(part) for system, part in sides if part]
    bias = (1 - share) * towers.candidates[:, -1:] + share * attention.candidates[:, -1:]
    return dataclasses.replace(
        towers,
        queries=np.concatenate([*queries, towers.queries[:, -1:]], axis=1),
        candidates=np.concatenate([*candidates, bias], axis=1).astype(np.float32),
    )
