"""Stage, commit and maintain an index."""
