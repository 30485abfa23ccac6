"""The approximate index of the vectors: making, tuning and searching it."""
