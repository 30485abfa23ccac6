"""Words: how texts and queries are folded, and what a lexical query asks, for any engine."""
