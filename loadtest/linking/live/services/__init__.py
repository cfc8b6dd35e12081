"""The services: no tracing, no context passed on; what each call was for is told to a file only."""
