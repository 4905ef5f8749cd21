"""From an untrained model to vectors: epochs, phases, snapshots."""
