"""Formats of Office before 2007: Word, PowerPoint, and the compound files that hold them."""
