"""Find the files to index: in folders and containers, by ignore rules, with their sidecars."""
