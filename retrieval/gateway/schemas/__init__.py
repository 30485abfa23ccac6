"""Bodies of requests and answers, for checks and for the OpenAPI document."""
