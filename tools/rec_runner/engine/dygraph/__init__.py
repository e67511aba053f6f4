"""Engines of the eager (dygraph) graph."""
