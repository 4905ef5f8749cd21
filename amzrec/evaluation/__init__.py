"""What answers are worth: a test set, the systems judged on it, metrics, baselines, intervals, pictures."""
