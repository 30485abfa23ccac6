"""The store that keeps an index in a folder: SQLite, FAISS and tantivy files."""
