"""Texts to train on: as token ids on the disk, and as packed batches of one update."""
