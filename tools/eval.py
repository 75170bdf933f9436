"""`python tools/eval.py ...` is `kdbench eval ...`."""

import sys

from kdbench.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["eval", *sys.argv[1:]]))
