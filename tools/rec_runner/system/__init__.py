"""What a tool asks of the machine: environment, files, signals, errors, lines on stderr."""
