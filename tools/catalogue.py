"""Write ``kdbench/catalogue.json`` anew, from the registries of methods, networks and data sets."""

from __future__ import annotations

import argparse
import json

from kdbench.catalogue import FILE, catalogue


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    FILE.write_text(json.dumps(catalogue(), indent=1) + "\n", encoding="utf-8")
    print(f"{FILE} written")


if __name__ == "__main__":
    main()
