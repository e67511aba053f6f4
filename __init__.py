"""Share-bottom multi-task model: a PaddleRec-style model directory."""
