"""Stubs generated from ``proto/indexer/v1`` by ``proto/generate.py``; not to be edited.

Importing this package before ``grpc`` keeps gRPC's own log lines off standard error. gRPC writes
one for every failed handshake, in a format of its own; its reasons are in our error messages
anyway. The variables ``GRPC_VERBOSITY`` and ``GRPC_TRACE`` turn the lines on.
"""

import os

if "GRPC_TRACE" not in os.environ:
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
