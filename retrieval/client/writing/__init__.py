"""Changes to collections: documents to put and to delete, and what became of them."""
