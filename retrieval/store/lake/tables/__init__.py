"""Tables of an index, and the objects that name one version of each."""
