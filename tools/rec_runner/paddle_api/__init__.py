"""All that these tools use of Paddle's private and version-dependent API, a topic to a module."""
