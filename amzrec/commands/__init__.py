"""One verb per file: the only code that ties the rooms together."""
