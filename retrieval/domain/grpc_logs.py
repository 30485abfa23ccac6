"""Keep gRPC's own log lines off standard error; importing this before ``grpc`` is enough.

gRPC writes a line for every failed handshake, in a format of its own, between our JSON log lines
or above the one line that tells a user what is wrong. Its reasons reach our messages anyway. The
variables ``GRPC_VERBOSITY`` and ``GRPC_TRACE`` still turn the lines on.
"""

import os

if "GRPC_TRACE" not in os.environ:
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
