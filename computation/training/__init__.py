"""One site's learning: loss, optimiser, schedule, metrics, learner, trainer, inference, checkpoints and privacy."""
