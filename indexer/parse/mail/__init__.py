"""E-mail and web archives: MIME messages, their headers, texts and attachments."""
