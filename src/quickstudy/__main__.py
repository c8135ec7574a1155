"""``python -m quickstudy`` is the command ``quickstudy``."""

import sys

from quickstudy.cli import main

if __name__ == "__main__":
    sys.exit(main())
