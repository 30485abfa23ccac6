"""What clients put: checked, read, and cut into chunks, ready to be embedded and committed."""
