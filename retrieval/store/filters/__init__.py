"""The filter language: its grammar, its tree and its values, whatever store evaluates it."""
