"""The SQLite side: schema, connections, rows and their checksums."""
