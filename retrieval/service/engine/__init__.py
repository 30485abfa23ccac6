"""The engine: everything that the service answers, whatever protocol asks for it.

An adapter (``grpc_api``; others can stand beside it) turns a request into values of the domain,
hands them in with a ``Call``, and turns what comes back into an answer. Errors are those of
``retrieval.errors``; the ``field`` that one names is a field of the contract. Nothing here knows a
message, a status or a connection. An engine belongs to one event loop.

A search goes through ``searches``: ``plans`` checks it against its collection, the query's text is
embedded, and a thread runs ``retrieval.search.Searcher`` over the collection's reader.
"""

from retrieval.service.engine.bounds import MAX_STREAM_LIMIT
from retrieval.service.engine.calls import Call
from retrieval.service.engine.engine import Engine
from retrieval.service.engine.plans import Search, SearchPage

__all__ = ["MAX_STREAM_LIMIT", "Call", "Engine", "Search", "SearchPage"]
