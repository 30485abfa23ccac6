"""Vector segments: exact and approximate search, and its tuning."""
