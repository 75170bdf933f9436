"""``python tools/study_costs.py GRID.yaml FILE.csv``: what a training step of each method costs on each pair of a grid, as a
multiple of the student's alone in the same rounds; ``kdbench study --costs`` reads it. First phases are not counted."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch

from kdbench.bench.grids.grid import Cell, Grid
from kdbench.bench.grids.grid_file import load_grid
from kdbench.bench.speed.timing import interleave, ratio
from kdbench.data.augmentation.looks import LOOKS
from kdbench.data.build import build_data
from kdbench.data.malloc import tune_malloc
from kdbench.data.source import DataSource
from kdbench.distillers.base import Batch
from kdbench.engine.parts import build_distiller, build_network
from kdbench.files import write_atomically


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("grid")
    parser.add_argument("out", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    tune_malloc()  # as every run does at its start
    torch.set_num_threads(1)
    grid = load_grid(args.grid, weights=False)
    data = build_data(grid.cells[0].cfg)
    lines = [["pair", "label", "step"]]
    for pair in grid.pairs:
        cells = {cell.method: cell for cell in reversed(grid.cells) if cell.pair == pair}
        alone = step(grid, cells[grid.baseline], data)
        for method in (m for m in grid.methods if m in cells):
            multiple = 1.0  # by definition
            if method != grid.baseline:
                own = step(grid, cells[method], data)
                seconds = interleave({"alone": alone, "own": own}, rounds=args.rounds, inner=10)
                multiple = ratio(seconds, "own", "alone")
            lines.append([pair, method, f"{multiple:.2f}"])
            print(*lines[-1], flush=True)
    write_atomically(args.out, "".join(",".join(line) + "\n" for line in lines))


def step(grid: Grid, cell: Cell, data: DataSource) -> Callable[[], None]:
    """Forward, backward and AdamW update of a cell's student."""
    cfg = cell.with_teacher(grid.teachers.get(cell.teacher), "")
    model = build_network(cfg, "STUDENT", data, seed=0).train()
    teacher = build_network(cfg, "TEACHER", data, seed=0).eval().requires_grad_(False) if cell.teacher else None
    method = build_distiller(cfg, model, teacher, data)
    model = method.adapt(model, teacher).train()
    optimizer = torch.optim.AdamW([*model.parameters(), *method.parameters()], lr=1e-5)
    size, index = cfg.SOLVER.BATCH_SIZE, torch.arange(cfg.SOLVER.BATCH_SIZE)
    images = torch.rand(size, 3, data.image_size, data.image_size, generator=torch.Generator().manual_seed(0))
    batch = Batch(images, data.train.labels[:size], index, index, looks=dict.fromkeys(LOOKS, images))

    def run() -> None:
        loss = torch.stack(list(method(model, method.taught(teacher, batch), batch).values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return run


if __name__ == "__main__":
    main()
