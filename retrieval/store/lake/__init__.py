"""The store on Lance tables: an index is a set of table versions that one small object names."""
