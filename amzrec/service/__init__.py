"""The HTTP service: answers from vectors, live events, and runs that are swapped while it answers."""
