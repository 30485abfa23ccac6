"""Texts to vectors and scores: find a model, load it, tokenise, batch, run."""
