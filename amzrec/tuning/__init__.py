"""Settings chosen on valid by many short trainings: their space, the study that keeps them, and what comes out best."""
