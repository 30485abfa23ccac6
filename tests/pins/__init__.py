"""Values that must never change: what an index, a client or a script of today relies on.

Each test compares with values that were written down once. A test that fails here says that indexes
have to be built anew, that deployed clients break or that scripts fail: change the code, not the
value. Additions are no change: a new option, metric or field needs no new value here.
"""
