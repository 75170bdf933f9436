"""The recipes that grid files declare for the cells of the published tables."""

from __future__ import annotations

import functools
import re
from pathlib import Path

from kdbench.bench.grids.find import shipped_grid
from kdbench.bench.grids.grid_file import load_grid
from kdbench.bench.paper.layouts import layout
from kdbench.bench.paper.published import Key
from kdbench.bench.results.display_names import paper_dataset, paper_method, paper_network
from kdbench.bench.results.recipe import Recipe, RunRecipe, differences, recipe
from kdbench.config.load import to_dict

CellName = tuple[str, str, str, str]  # dataset, teacher, student, method, as the tables write them
UNREADABLE = "its configuration cannot be read"


class Declared:
    """The recipes that a grid file declares, by cell, and those of the teachers that it trains.

    Args:
        grid: the file.
        networks: refuse networks that do not exist, which imports torch and timm; this project's own grids need no check.

    Raises:
        ConfigError, UnknownNameError: the file cannot be read, or something in it is wrong.
    """

    def __init__(self, grid: str | Path, *, networks: bool = True) -> None:
        loaded = load_grid(grid, seeds=1, weights=False, networks=networks)
        self.name = loaded.name
        self.recipes: dict[CellName, Recipe] = {}
        self.teachers: dict[tuple[str, str], Recipe] = {}
        for teacher in loaded.teachers.values():
            if teacher.cfg is not None:
                place = paper_dataset(teacher.cfg.DATASET.TYPE), paper_network(teacher.network)
                self.teachers[place] = recipe(to_dict(teacher.cfg))
        for cell in loaded.cells:
            known = loaded.teachers.get(cell.teacher)
            name = known.network if known is not None else ""
            key = (
                paper_dataset(cell.cfg.DATASET.TYPE),
                paper_network(name) if name else "",
                paper_network(cell.student),
            )
            self.recipes[(*key, paper_method(cell.method))] = recipe(to_dict(cell.with_teacher(known, "")))

    def find(self, key: Key) -> Recipe | None:
        """The recipe of a table's cell; a student alone belongs to every teacher."""
        teacher = "" if key.method == "Scratch" else key.teacher
        return self.recipes.get((key.dataset, teacher, key.student, key.method))

    def declares(self, table: int) -> bool:
        """Whether it is about this table: named after it, or named after none and with one of its cells."""
        named = re.fullmatch(r"table([1-7])", self.name)
        if named is not None:
            return int(named[1]) == table
        return any(self.find(key) is not None for key in layout(table).figures() if key.table == table)

    def deviations(self, key: Key, run: RunRecipe | None, teacher: RunRecipe | None) -> tuple[str, ...]:
        """How a run of a cell differs from its recipe.

        Args:
            key: the cell.
            run: how the run was made; None where that cannot be read.
            teacher: how its teacher was made; None where that run is not at hand.
        """
        wanted = self.find(key)
        if wanted is None:
            return ()
        if run is None:
            return (UNREADABLE,)
        found = differences(run.recipe, wanted)
        place = (key.dataset, key.teacher)
        if key.method != "Scratch" and place in self.teachers:
            if run.teacher_weights == "pretrained":
                found.append("TEACHER.WEIGHTS pretrained (declared: trained by the grid)")
            if teacher is not None:
                found += self.teacher_deviations(place, teacher)
        return tuple(found)

    def teacher_deviations(self, place: tuple[str, str], run: RunRecipe) -> list[str]:
        """How a teacher's run differs from what the grid declares for it; nothing for given weights."""
        wanted = self.teachers.get(place)
        return [] if wanted is None else [f"its teacher's {line}" for line in differences(run.recipe, wanted)]


class Declarations:
    """Where a table's cells are declared: those of table n in its own grid, those that it repeats of another one in that table's.

    Args:
        table: the table.
        grid: a grid file instead of this project's.

    Raises:
        KdbenchError: the named grid cannot be read.
    """

    def __init__(self, table: int, grid: str | Path = "") -> None:
        self.table = table
        self.named = declared_of(grid) if grid else None

    @property
    def own(self) -> Declared | None:
        """Of the table itself; None where no grid is at hand."""
        return self.named or shipped(self.table)

    def of(self, key: Key) -> Declared | None:
        """The grid that is to declare a cell; None where none is at hand."""
        if self.named is not None and (key.table == self.table or self.named.find(key) is not None):
            return self.named
        return shipped(key.table)


def shipped(table: int) -> Declared | None:
    """This project's ``configs/grids/table<n>.yaml``, None where a copy of kdbench has none."""
    file = shipped_grid(f"table{table}")
    return None if file is None else declared_of(file, networks=False)


def declared_of(grid: str | Path, *, networks: bool = True) -> Declared:
    """What a grid file declares, as :class:`Declared`; read once as long as the file is the same.

    Raises:
        KdbenchError: it cannot be read.
    """
    file = Path(grid)
    return _read(str(file.resolve()), file.stat().st_mtime_ns if file.is_file() else 0, networks)


@functools.lru_cache(maxsize=32)
def _read(file: str, _changed: int, networks: bool) -> Declared:
    return Declared(file, networks=networks)
