"""Vectors as artifacts that other servers load."""
