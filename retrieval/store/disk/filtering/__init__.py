"""Filters evaluated by SQLite."""
