"""Read files in processes of their own, so that a hostile file can harm only itself."""
