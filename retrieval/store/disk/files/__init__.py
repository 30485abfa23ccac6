"""Files of an index: vector files, paths for libraries, parts that generations share."""
