"""Engines of the static graph."""
