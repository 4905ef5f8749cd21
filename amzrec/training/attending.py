"""The phases in which attention is trained, after the towers: on train, judged on valid, and again on both."""

from __future__ import annotations

import math

from amzrec import interrupts
from amzrec.features.fitted import fit_reviews
from amzrec.store.dataset import Reviews
from amzrec.training.attended import AttentionSnapshot, mixed
from amzrec.training.attention import AttentionLearner
from amzrec.training.choosing import choose_beside, with_chosen_time
from amzrec.training.release import give_back_memory
from amzrec.training.session import ATTENTION, WATCH, Session
from amzrec.training.state import ATTEND, ATTEND_AGAIN, AttentionChoice, Choices
from amzrec.training.watch import Watch

SHARES = (0.0, 0.5, 0.75, 1.0)  # of the retrieval score, that attention may have
PATIENCE = 2  # epochs without a better gain on valid after which its training stops


def attend(session: Session) -> None:
    """Train attention on train, and choose on valid its best epoch, and what it counts beside the towers.

    Without valid reviews all epochs are trained, and attention stands in the place of the towers.
    """
    dataset, recipe, state = session.dataset, session.recipe, session.state
    fitted = with_chosen_time(fit_reviews(dataset, dataset.train, recipe), dataset.train, state.choices)
    learner, watch = AttentionLearner(recipe, fitted), None
    learner.prepare()
    if len(dataset.valid):
        watch = Watch(dataset, fitted.candidates, recipe.seed)
    state.choices.attention = state.choices.attention or AttentionChoice(0 if watch else recipe.epochs, 1.0)
    session.resumed(learner, watch)
    while state.epoch < recipe.epochs and state.epoch - state.choices.attention.epochs < PATIENCE:
        with interrupts.held():
            facts = session.epoch(learner, watch, ATTEND, recipe.epochs)
            figures = watch.figures(learner) if watch else {}
            if watch and figures["valid_ndcg"] > state.figures.get(ATTEND, -math.inf):
                state.choices.attention = AttentionChoice(state.epoch, 1.0)
                state.figures[ATTEND] = figures["valid_ndcg"]
                watch.remember(learner, "retrieval")
            if not recipe.refit and state.epoch == state.choices.attention.epochs:
                AttentionSnapshot.of(learner).save(session.work / ATTENTION)
            session.record(facts, figures)
            session.checkpoint(learner, watch)
    if watch:
        with session.saving(learner, watch):
            choose_share(session, learner, watch)
    learner.close()
    give_back_memory()


def choose_share(session: Session, learner: AttentionLearner, watch: Watch) -> None:
    """Choose on valid what attention counts beside the towers, and with it what else stands there; and say so."""
    dataset, choices = session.dataset, session.state.choices
    towers = Watch(dataset, learner.fitted.candidates, session.recipe.seed)
    towers.load(session.work / WATCH, learner.fitted)
    assert towers.best
    assert watch.best
    systems = [(share, mixed(towers.best, watch.best, share)) for share in SHARES]
    choose_beside(session, learner.fitted, towers, systems)
    assert choices.attention
    share, rest = choices.attention.share, "the bag of recent" if choices.best["retrieval"] else "popularity"
    if share == 1:
        choices.best["retrieval"] = 0  # what the towers learned is not read
    said = f"{share:.0%} attention, the rest {rest}"
    if share in (0, 1):
        said = f"attention alone, without {rest}" if share else f"{rest}, without attention"
    session.progress.say(f"valid ranks best by {said}")


def attend_again(session: Session, choices: Choices) -> None:
    """Train attention on train + valid for the chosen epochs, and keep what it has learned."""
    dataset, recipe, state = session.dataset, session.recipe, session.state
    assert choices.attention
    both = Reviews.concat([dataset.train, dataset.valid])
    fitted = with_chosen_time(fit_reviews(dataset, both, recipe), both, choices)
    learner = AttentionLearner(recipe, fitted)
    learner.prepare()
    session.resumed(learner, None)
    while state.epoch < choices.attention.epochs:
        with interrupts.held():
            session.record(session.epoch(learner, None, ATTEND_AGAIN, choices.attention.epochs), {})
            session.checkpoint(learner, None)
    AttentionSnapshot.of(learner).save(session.work / ATTENTION)
    learner.close()
    give_back_memory()
