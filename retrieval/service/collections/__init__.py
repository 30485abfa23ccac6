"""The indexes that a server has open, the models they need, and new generations of them."""
