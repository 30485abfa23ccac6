"""The gRPC side of the service: messages in, messages out, errors as statuses."""
