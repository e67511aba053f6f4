"""Tables as people keep them, with text, blanks and ids: their schema, and their rows as arrays."""
