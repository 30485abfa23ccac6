"""Read files in processes of their own, so that a hostile file can only lose itself."""
