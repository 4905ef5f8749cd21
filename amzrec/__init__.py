"""A multitask recommender on TensorFlow Recommenders, from a file of reviews."""

from __future__ import annotations

__version__ = "0.1.0"
