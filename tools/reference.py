"""Write ``docs/keys.md`` and ``docs/grid-files.md`` anew: the keys of a configuration and of a grid file, from the code."""

from __future__ import annotations

from pathlib import Path

from kdbench.bench.grids.reading.keys import grid_reference
from kdbench.bench.methods.keys import key_reference

PAGES = {Path("docs/keys.md"): key_reference, Path("docs/grid-files.md"): grid_reference}


def main() -> None:
    for file, write in PAGES.items():
        file.write_text(write(), encoding="utf-8")
        print(f"{file} written")


if __name__ == "__main__":
    main()
