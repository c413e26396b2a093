"""``python -m raynas``: the command line."""

import sys

from raynas.cli import main

if __name__ == "__main__":
    sys.exit(main())
