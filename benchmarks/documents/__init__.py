"""Reading and chunking of documents."""
