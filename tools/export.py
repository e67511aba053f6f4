"""A checkpoint made a folder that predicts by itself: ``python tools/export.py -m config.yaml``."""

import sys

from rec_runner.cli import main

if __name__ == "__main__":
    sys.exit(main("export", ""))
