"""Pure values of tracing: ids, contexts, propagation formats, spans, sampling. No I/O, no clock."""
