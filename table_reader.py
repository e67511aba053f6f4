"""Stub."""

from raw_tables.description import describe as describe
