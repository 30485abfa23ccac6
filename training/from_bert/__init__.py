"""Conversion of the parts of a BERT encoder into those of a GTE encoder, before any training."""
