"""A dataset as what a model reads: histories, attributes, popularity over time, the columns of each training step."""
