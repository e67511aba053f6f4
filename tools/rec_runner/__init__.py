"""What the tools share: one loop, two graphs, and nothing of any model directory."""
