"""`python tools/table.py ...` is `kdbench table ...`."""

import sys

from kdbench.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["table", *sys.argv[1:]]))
