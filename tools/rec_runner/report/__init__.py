"""What a person and a script see of a run."""
