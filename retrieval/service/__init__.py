"""The service ``retrieval.v1``: an engine, and gRPC in front of it.

A request's path::

    grpc_api         admits the request, translates its message, turns errors into statuses
      access         identifies the caller by its token
      limits         bounds requests, connections, and the bytes and time of messages
      observability  logs, counts and traces the request
    engine           answers it; knows no protocol: searches, texts, documents, the catalog
      page_tokens    makes and reads the tokens of pages
      collections    holds the open indexes, their models, and the vectors of recent queries
      scheduling     runs searches and models in threads, and lets callers take turns

``server`` puts the parts together and takes them down again; ``config`` holds its settings.
"""

import retrieval.v1  # noqa: F401  (before grpc)
