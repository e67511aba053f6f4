"""Predictions as bytes of a file: CSV, JSON lines or Parquet, and where these bytes go."""
