"""The gRPC service ``retrieval.v1``.

A request's path::

    interceptors   admit it or refuse it, turn what it raises into a status
    access         who sends it, by its token (``tokens``), and what that allows; ``tls``
    transfers      its message and its answer, within a budget of bytes and of time
    observer       its line in the log, its numbers (``metrics``), its trace (``tracing``)
    servicers      one module a service: search, embedding, index
    requests       message → what is asked, checked; paging makes and reads page tokens
    responses      records → messages
    collections    name → the open index; requests hold on to the generation they started with
    workers        threads beside the event loop; batcher runs models over what waits together
    pace           who would be answered too late there is told at once
    status         exception → gRPC status, in one table

``server`` puts the parts together and takes them down again.
"""

import retrieval.v1  # noqa: F401  (before grpc)
