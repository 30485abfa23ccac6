"""Training of one stage: loop, objectives, optimizers, checkpoints, measurement."""
