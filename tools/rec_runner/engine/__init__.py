"""What runs a model: one engine for each graph, by the contract or by whole blocks."""
