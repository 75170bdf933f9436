"""`python tools/grid.py ...` is `kdbench grid ...`."""

import sys

from kdbench.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["grid", *sys.argv[1:]]))
