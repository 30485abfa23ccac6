"""Manual pages: troff escapes, and the macros of man(7) and mdoc(7)."""
