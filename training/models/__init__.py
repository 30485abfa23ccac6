"""The model that learns, the one it learns from, and what both compute on the way."""
