"""What answers are worth: metrics, baselines, the test set, pictures."""
