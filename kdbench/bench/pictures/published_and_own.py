"""Published figures against own ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kdbench.bench.paper.table import PaperTable
from kdbench.bench.pictures.canvas import MARKS, pyplot, save


def plot_reported(tables: Sequence[PaperTable], path: str | Path) -> bool:
    """Each student's cell that has both figures as a point, the published one across, the own mean up with its standard
    deviation; on the line they are equal. Teachers are left out: they are not what is compared, and would stretch the axes. A
    marker a table; a hollow circle around runs of another recipe than declared.

    Returns:
        Whether there was such a cell; without one nothing is written.
    """
    plt = pyplot()
    found = {t.layout.number: _points(t) for t in tables}
    every = [point for points in found.values() for point in points]
    if not every:
        return False
    figure, axis = plt.subplots(figsize=(5.4, 4.8), layout="constrained")
    values = [value for point in every for value in point[:2]]
    low, high = min(values) - 2, max(values) + 2
    axis.plot([low, high], [low, high], color="0.7", linewidth=1, zorder=0)
    for number, points in found.items():
        if not points:
            continue
        marker, face = MARKS[(number - 1) % len(MARKS)]
        across, up, bars, _ = zip(*points)
        style = {"fmt": marker, "markersize": 5, "markerfacecolor": face, "markeredgecolor": "black"}
        axis.errorbar(across, up, bars, ecolor="0.5", elinewidth=1, capsize=2, label=f"Table {number}", **style)
    marked = [point for point in every if point[3]]
    if marked:
        ring = {"color": "0.35", "markersize": 11, "fillstyle": "none", "label": "another recipe than declared"}
        axis.plot([p[0] for p in marked], [p[1] for p in marked], "o", **ring)
    axis.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axis.set_xlabel("published top-1 in percent", fontsize=9)
    axis.set_ylabel(f"own top-1 in percent, {tables[0].select} epoch, mean ± sd", fontsize=9)
    axis.grid(color="0.92")
    axis.set_axisbelow(True)
    axis.legend(fontsize=9, loc="upper left")
    save(figure, path)
    return True


def _points(table: PaperTable) -> list[tuple[float, float, float, bool]]:
    """(published, own mean, own sd, another recipe) of each student's top-1 that has both figures."""
    found = []
    for cell in table.cells():
        if cell.key is None or cell.key.metric != "top1" or cell.key.method == "Teacher":
            continue
        if cell.ours is not None and cell.reported is not None:
            found.append((cell.reported, cell.ours.mean, cell.ours.sd or 0.0, cell.other_recipe))
    return found
