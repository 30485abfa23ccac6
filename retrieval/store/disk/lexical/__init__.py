"""The lexical index: analysis, BM25 search, and its writer."""
