"""``python -m kdbench`` is ``kdbench``."""

import sys

from kdbench.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
