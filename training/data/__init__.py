"""Texts to train on: token ids on disk, and packed batches of them."""
