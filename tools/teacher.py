"""`python tools/teacher.py ...` is `kdbench teacher ...`."""

import sys

from kdbench.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["teacher", *sys.argv[1:]]))
