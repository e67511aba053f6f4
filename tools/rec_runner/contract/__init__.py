"""What tools and model directories owe each other: imports, required methods, hooks."""
