"""All that these tools know of Paddle's private and version-dependent API."""
