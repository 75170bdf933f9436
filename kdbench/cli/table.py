"""``kdbench table``."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("folder", help="a grid's folder, or any folder above finished runs")
    parser.add_argument("--select", default="last", help="last (default), best, or selected (by validation accuracy)")
    parser.add_argument("--baseline", default="", help="method to which gains refer (default: the grid's, or KD)")
    parser.add_argument(
        "--out", default="", metavar="FOLDER", help="also write table.md, table.csv and table.png there"
    )


def run(args: argparse.Namespace) -> int:
    """Print the table, and write it where asked."""
    from kdbench.bench.table import build_table

    table = build_table(args.folder, select=args.select, baseline=args.baseline)
    text = table.to_markdown()
    print(text)
    if args.out:
        from kdbench.bench.plot import plot_table
        from kdbench.engine.run_folder import write_atomically

        out = Path(args.out)
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / "table.md", text)
        write_atomically(out / "table.csv", table.to_frame().to_csv(index=False))
        plot_table(table, out / "table.png")
        print(f"written: {out / 'table.md'}, table.csv, table.png")
    return 0
