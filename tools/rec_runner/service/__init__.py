"""Predictions over HTTP: routes, limits, micro-batches, reload, workers, metrics and access log."""
