"""Find the files to index: folders, ignore rules, archives, and files of metadata."""
