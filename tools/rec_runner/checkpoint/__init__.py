"""Checkpoints: whole or absent, checked before they are believed, resumed bit for bit."""
