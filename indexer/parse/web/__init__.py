"""HTML, and formats that contain it: EPUB and e-mail."""
