"""A dataset as what a model reads: histories, attributes, popularity over time, batches."""
