"""An export behind an HTTP address: ``python tools/serve.py --model DIR``."""

import sys

from rec_runner.serve import main

if __name__ == "__main__":
    sys.exit(main())
