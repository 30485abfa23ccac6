"""What all parsers share: sections, metadata, composed texts, tables, damage."""
