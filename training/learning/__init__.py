"""One stage of training: the loop, the objectives, the optimizers, checkpoints, measurement."""
