"""What a grid file may hold: every key, what it expects, what it means. The reader and the reference page go by it."""

from __future__ import annotations

from tabulate import tabulate

from kdbench.escape import markdown

Keys = dict[str, tuple[str, str]]

GRID: Keys = {
    "NAME": ("a folder's name", "the grid's folder below `--prefix`; required"),
    "CFG": ("a file", "the recipe of every cell, relative to this file; without it, the defaults"),
    "TEACHERS": ("name: {...}", "the teachers, see below"),
    "PAIRS": ("a list of {...}", "teacher and student, a row of the table each, see below; required"),
    "METHODS": ("a list", "the columns: names of methods, or {...}, see below; required unless every pair has its own"),
    "SEEDS": ("a list of whole numbers", "each cell is run with each; required"),
    "SET": ("keys: values", "put over the recipe of every cell"),
    "BASELINE": ("a label", "the method to which gains refer; default: KD, or where that is not run the first"),
    "SWEEP": ("{...}", "equal tuning of every method, see below"),
    "IMPORTS": ("a list of files and modules", "your own methods, networks and data sets, relative to this file"),
}
TEACHER: Keys = {
    "CFG": (
        "a file",
        "the configuration of the run that trains it, which the grid does first; `DISTILLER.TYPE` is NONE, unless it has a TEACHER",
    ),
    "TEACHER": (
        "a name of TEACHERS",
        "with CFG: the teacher that it learns from, as an assistant; CFG then names a method",
    ),
    "MODEL": ("a network", "instead of CFG: a network with finished weights"),
    "WEIGHTS": ("a file, or pretrained", "with MODEL: its weights"),
    "SET": ("keys: values", "put over CFG; with MODEL, keys of the students' runs (`TEACHER.NORM`, ...)"),
}
PAIR: Keys = {
    "TEACHER": ("a name of TEACHERS, or a list", "required; those of a list teach together (`AVER`, `CA_MKD`)"),
    "STUDENT": ("a network", "required"),
    "LABEL": ("a text", "the row's name; default: teacher -> student"),
    "CFG": ("a file", "the recipe of this pair's cells, instead of the grid's"),
    "SET": ("keys: values", "put over the cells of this pair"),
    "METHODS": ("a list", "instead of the grid's"),
    "PUBLISHED": ("label: a number", "known answers: top-1 in percent, by a method's label; for `kdbench reproduce`"),
    "SOURCE": ("a text", "where these stand; required with PUBLISHED"),
}
METHOD: Keys = {
    "TYPE": ("a method", "required; Vanilla is the student alone, `A+B` several at once"),
    "LABEL": ("a text", "the column's name; two settings of one method need two. Default: TYPE"),
    "PRESET": ("a name", "another published setting (`kdbench list methods --detail`)"),
    "SET": ("keys: values", "put over the cells of this method"),
}
SWEEP: Keys = {
    "TRIALS": ("a whole number", "for each method and pair; the first has the published values; required"),
    "SEEDS": ("a list of whole numbers", "of the trials; a trial's score is their mean; required"),
    "SPACE": ("label or ALL: keys", "of each key a list of values, or {LOW, HIGH, LOG, STEP}; required"),
    "METHODS": ("a list of labels", "those that are tuned; default: all that have a space"),
    "SAMPLER": ("random, qmc, tpe", "default: random"),
    "ROUNDS": ("a whole number", "of tpe, which learns between rounds; default: 1"),
}

_PAGE = """# Grid files

`python tools/reference.py` writes the tables of this page from `kdbench/bench/grids/reading/keys.py`, by which grid files are read.

A grid file says what is compared: methods x teacher-student pairs x seeds. `kdbench grid FILE` runs what is not done, and
`kdbench table runs/NAME` prints it. `configs/grids/` has those of the papers' tables.

```yaml
NAME: mine
CFG: student.yaml                       # how every cell is trained
TEACHERS:
  CNN: {CFG: teacher.yaml}              # trained by the grid
  Swin: {MODEL: "timm:swin_tiny_patch4_window7_224", WEIGHTS: swin_t.pth}
PAIRS:
  - {TEACHER: CNN, STUDENT: resnet20}
  - {TEACHER: Swin, STUDENT: resnet20, LABEL: Swin-T -> ResNet20, SET: {SOLVER.LR: 0.01}}
METHODS:
  - Vanilla
  - KD
  - {TYPE: KD, LABEL: KD T=8, SET: {KD.TEMPERATURE: 8}}
SEEDS: [1, 2, 3]
SET: {SOLVER.EPOCHS: 100}
```

What is put over what, the later over the earlier: the recipe `CFG`, then `SET` of the grid, of a given teacher, of the pair, then
teacher, student, method and seed themselves, `SET` of the method, and last the words of the command line. Keys may be nested or
dotted ([all keys](keys.md)). Mistakes are found before anything runs: unknown keys with the nearest name, values that a key does
not take, keys that act on none of the runs, cells that stand twice.
"""
_SECTIONS = (
    ("The file", GRID),
    ("A teacher", TEACHER),
    ("A pair", PAIR),
    ("A method", METHOD),
    ("SWEEP", SWEEP),
)
_AFTER = """[Equal tuning](tuning.md) explains `SWEEP`; [reproducing the tables](reproducing-the-tables.md) what a grid's
command can do, [clusters](clusters.md) how it runs elsewhere. In Python, `kdbench.run_grid` takes a file, or what it holds as a
dictionary; a script calls it below `if __name__ == "__main__":`, since each of its workers imports the script.
"""


def grid_reference() -> str:
    """The page as Markdown."""
    parts = [_PAGE]
    for title, keys in _SECTIONS:
        rows = [[f"`{key}`", markdown(expects), meaning] for key, (expects, meaning) in keys.items()]
        parts += [f"## {title}", tabulate(rows, ["key", "expects", "meaning"], tablefmt="pipe", disable_numparse=True)]
    return "\n\n".join([*parts, _AFTER])
