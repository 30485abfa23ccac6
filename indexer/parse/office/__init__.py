"""Word, PowerPoint and spreadsheet files."""
