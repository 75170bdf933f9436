"""Write ``docs/methods`` anew; ``--measure`` times every method's step first (minutes)."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from kdbench.bench.methods.cards import COSTS, PAIRS, write_cards
from kdbench.bench.speed.step import measure_all
from kdbench.data.malloc import tune_malloc

FOLDER, MATRIX = Path("docs/methods"), Path("tests/conformance/matrix.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", action="store_true")
    if parser.parse_args().measure:
        tune_malloc()  # as every run does at its start
        costs = [{"teacher": t, "student": s, **measure_all(s, t)} for t, s in PAIRS]
        COSTS.write_text(json.dumps(costs, indent=1) + "\n", encoding="utf-8")
    write_cards(FOLDER, json.loads(MATRIX.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
