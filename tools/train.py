"""`python tools/train.py ...` is `kdbench train ...`."""

import sys

from kdbench.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
