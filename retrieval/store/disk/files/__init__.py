"""Files of an index: vector files, paths for libraries, and parts that generations share."""
