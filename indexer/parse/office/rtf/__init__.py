"""Rich Text Format (Microsoft, version 1.9.1)."""
