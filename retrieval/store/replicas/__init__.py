"""Copies of an index on other machines, by way of an object store.

``publish`` writes a generation of an index to a bucket, and ``pull`` brings the newest one to a
folder. An object is named after the SHA-256 of its content, so generations share what they have in
common, and each is sent and fetched once::

    PREFIX/generations/00000000000000000007.json   the seventh generation that was published
    PREFIX/files/<sha256>                          a file of vectors or words
    PREFIX/blocks/<sha256>                         a piece of the database

A generation is published at the moment when its manifest is created, after everything that it
names. Manifests are numbered, and none is ever written twice.
"""
