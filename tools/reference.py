"""Write ``docs/keys.md`` anew: every key of a configuration, from the tree of defaults and its comments."""

from __future__ import annotations

from pathlib import Path

from kdbench.bench.methods.keys import key_reference

FILE = Path("docs/keys.md")


def main() -> None:
    FILE.write_text(key_reference(), encoding="utf-8")
    print(f"{FILE} written")


if __name__ == "__main__":
    main()
