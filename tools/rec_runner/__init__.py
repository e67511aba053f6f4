"""What the four tools share: one loop, two graph paths.

Data flows one way: ``config`` → ``model_dir`` → ``data`` → ``dygraph_engine`` or ``static_engine``
→ ``loop`` → ``checkpoint`` and ``report``. Nothing here knows any model directory.
"""
