"""Encoding of texts as vectors and scores: find a model, load it, tokenise, batch, run it."""
