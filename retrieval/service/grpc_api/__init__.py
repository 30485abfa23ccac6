"""The gRPC adapter of the engine: messages in and out, errors as statuses, TLS, health."""
