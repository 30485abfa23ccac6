"""OpenDocument files (ISO 26300) of LibreOffice and others: texts, presentations, spreadsheets."""
