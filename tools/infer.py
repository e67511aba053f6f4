"""Score checkpoints in the eager graph: ``python tools/infer.py -m config.yaml``."""

import sys

from rec_runner.cli import main

if __name__ == "__main__":
    sys.exit(main("infer", "dygraph"))
