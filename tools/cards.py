"""Write ``docs/methods`` anew; ``--measure`` times every method's step first (minutes), ``--measure new`` that of methods without a
figure."""

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
    parser.add_argument("--measure", nargs="?", const="all", choices=["all", "new"])
    if measure := parser.parse_args().measure:
        tune_malloc()  # as every run does at its start
        old = json.loads(COSTS.read_text(encoding="utf-8")) if measure == "new" else [{"x KD": {}} for _ in PAIRS]
        costs = []
        for (teacher, student), before in zip(PAIRS, old, strict=True):
            made = measure_all(student, teacher, known=before["x KD"])
            ratios = dict(sorted({**made["x KD"], **before["x KD"]}.items()))
            costs.append({"teacher": teacher, "student": student, **before, **made, "x KD": ratios})
        COSTS.write_text(json.dumps(costs, indent=1) + "\n", encoding="utf-8")
    write_cards(FOLDER, json.loads(MATRIX.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
