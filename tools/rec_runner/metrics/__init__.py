"""Metrics of one pass over the rows: exact, running, resumable."""
