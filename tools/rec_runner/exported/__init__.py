"""An export folder: what it says of itself, how it is written, opened, run and checked."""
