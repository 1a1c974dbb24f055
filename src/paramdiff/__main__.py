"""``python -m paramdiff``."""

import sys

from paramdiff.cli import main

if __name__ == "__main__":
    sys.exit(main())
