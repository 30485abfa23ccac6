"""Trainer of small GTE-v1.5 encoders: masked tokens, contrastive pairs, or a teacher's vectors."""
