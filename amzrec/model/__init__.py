"""The two towers, the rating head, losses and optimizer, on TensorFlow."""
