"""Schema and config of your own files: ``python tools/schema.py rows.csv --label click``."""

import sys

from rec_runner.describe import main

if __name__ == "__main__":
    sys.exit(main())
