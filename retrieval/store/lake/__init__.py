"""The store on Lance tables: an index is a set of table versions that one small object names."""

import os

# Lance logs to standard error, a line for each empty list of an index. What matters it raises.
os.environ.setdefault("LANCE_LOG", "error")
