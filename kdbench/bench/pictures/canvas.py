"""What every picture is drawn on: panels, a legend below them, marks that are told apart in grey."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kdbench.escape import picture

#: told apart without colour: marker, and grey of the face
MARKS = [(marker, face) for face in ("black", "white", "0.6") for marker in "osD^vPX<>*"]
LINES = [(style, shade) for shade in ("black", "0.45", "0.7") for style in ("-", "--", ":", "-.")]


def pyplot() -> Any:
    """matplotlib's pyplot without a display."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    return plt


def panels(
    count: int, *, width: float = 4.4, height: float = 3.2, across: int = 3, **options: Any
) -> tuple[Any, list[Any]]:
    """A figure of ``count`` axes, at most ``across`` side by side; sizes in inches."""
    plt = pyplot()
    columns = max(1, min(across, count))
    rows = -(-count // columns)
    size = (width * columns, height * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained", **options)
    flat = list(axes.flat)
    for spare in flat[count:]:
        spare.set_visible(False)
    return figure, flat[:count]


def legend_below(figure: Any, handles: dict[str, Any], **options: Any) -> None:
    """One legend below all panels, in as many columns as fit into the figure, which grows by the legend's height."""
    if not handles:
        return
    labels = list(map(picture, handles))
    for columns in range(min(8, len(handles)), 0, -1):
        legend = figure.legend(
            handles.values(), labels, loc="outside lower center", ncols=columns, fontsize=9, **options
        )
        box = legend.get_window_extent(figure.canvas.get_renderer())
        if box.width <= figure.bbox.width or columns == 1:
            break
        legend.remove()
    figure.set_figheight(figure.get_figheight() + box.height / figure.dpi)


def save(figure: Any, path: str | Path) -> None:
    """Write a picture in the format that its name says (PNG has 150 dots an inch) and forget the figure."""
    figure.savefig(path, dpi=150)
    pyplot().close(figure)
