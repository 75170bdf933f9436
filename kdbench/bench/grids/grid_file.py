"""A grid file, and the list of configurations that it stands for.

.. code-block:: yaml

    NAME: quickstart
    CFG: ../digits/student.yaml         # recipe of every cell
    TEACHERS:                           # name -> the run that trains it, or finished weights
      ViT: {CFG: ../digits/teacher_vit.yaml}
      Swin-T: {MODEL: "timm:swin_tiny_patch4_window7_224", WEIGHTS: swin_t.pth}
    PAIRS:
      - {TEACHER: ViT, STUDENT: small_cnn}
      - {TEACHER: Swin-T, STUDENT: resnet20, METHODS: [KD], SET: {SOLVER.LR: 0.01}}   # methods of its own
      - {TEACHER: [ViT, Swin-T], STUDENT: resnet20, METHODS: [AVER]}                  # several teachers at once
    METHODS: [Vanilla, KD, {LABEL: DKD-b2, TYPE: DKD, SET: {DKD.BETA: 2.0}}]
    SEEDS: [1, 2, 3]
    SET: {SOLVER.EPOCHS: 12}            # put over every cell
    SWEEP: ...                          # tunes methods; see :mod:`kdbench.bench.grids.reading.sweep`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from kdbench.bench.grids.grid import Cell, Grid, Published, Teacher, several, tuned_label
from kdbench.bench.grids.reading import keys
from kdbench.bench.grids.reading.checks import (
    as_list,
    as_mapping,
    check_baseline,
    check_keys,
    check_name,
    check_network,
    check_seeds,
    check_texts,
)
from kdbench.bench.grids.reading.idle_keys import IdleKeys
from kdbench.bench.grids.reading.published import read_published
from kdbench.bench.grids.reading.sweep import read_sweep
from kdbench.config.files import GIVEN, taken_imports
from kdbench.config.load import NO_TEACHER, Setting, build_config, flatten, parse_overrides, read_yaml
from kdbench.config.teachers import AND
from kdbench.errors import ConfigError, did_you_mean
from kdbench.paths import beside, config_path, expanded, user_path, weights_file
from kdbench.plugins import import_plugins


def load_grid(
    path: str | Path | Mapping[str, Any],
    overrides: Sequence[str] | Mapping[str, Any] = (),
    *,
    seeds: int = 0,
    weights: bool = True,
    networks: bool = True,
) -> Grid:
    """Read a grid file and resolve every cell.

    Args:
        path: the YAML file, or what one holds as a dictionary, whose paths are relative to the working directory.
        overrides: configuration keys put over every cell and every teacher's run, as in :func:`kdbench.load_config`.
        seeds: take only the first so many; 0 = all.
        weights: the teachers' weights files must exist.
        networks: the networks must exist; looking up those of timm and torchvision imports both.

    Raises:
        ConfigError: an unknown key, a pair without teacher, a cell that stands twice, or a wrong configuration.
        UnknownNameError: a method that does not exist.
    """
    last, idle = parse_overrides(overrides), IdleKeys()
    imports: list[str] = []
    tree = _read(path if isinstance(path, Mapping) else config_path(path), imports)
    path = GIVEN if isinstance(path, Mapping) else config_path(path)
    check_keys(path, "", tree, keys.GRID, required=("NAME", "PAIRS", "SEEDS"))
    check_texts(path, "", tree, "NAME", "CFG")
    check_name(path, tree["NAME"])
    as_mapping(path, "", tree, "SET")
    check_seeds(path, as_list(path, tree, "SEEDS"))
    given = as_mapping(path, "", tree, "TEACHERS")
    teachers = {
        str(name): _teacher(path, str(name), node, last, weights, idle, imports) for name, node in given.items()
    }
    if networks:
        for name, teacher in teachers.items():
            check_network(path, f"TEACHERS.{name}{'' if teacher.cfg is not None else '.MODEL'}", teacher.network)
    _check_chains(path, teachers)
    labels: list[str] = []
    recipes = {"": _read(config_path(tree["CFG"], path), imports) if "CFG" in tree else {}}
    cells: list[Cell] = []
    published: dict[tuple[str, str], Published] = {}
    places: dict[tuple[str, str], tuple[Mapping[str, Any], Mapping[str, Any]]] = {}
    for entry in as_list(path, tree, "PAIRS"):
        check_keys(path, "PAIRS.", entry, keys.PAIR, required=("TEACHER", "STUDENT"))
        together = entry["TEACHER"] if isinstance(entry["TEACHER"], list) else []
        check_texts(path, "PAIRS.", entry, *(() if together else ("TEACHER",)), "STUDENT", "LABEL", "CFG")
        as_mapping(path, "PAIRS.", entry, "SET")
        for name in together or [entry["TEACHER"]]:
            if name not in teachers:
                near = did_you_mean(str(name), teachers)
                raise ConfigError(f"{path}: PAIRS names the teacher {name!r}, which is not in TEACHERS{near}")
        if len(set(together)) != len(together):
            raise ConfigError(f"{path}: PAIRS.TEACHER names one of {AND.join(together)} twice")
        if together:
            made = teachers[together[0]] if len(together) == 1 else several([teachers[name] for name in together])
            teachers.setdefault(made.name, made)
            entry = {**entry, "TEACHER": made.name}
        if networks:
            check_network(path, "PAIRS.STUDENT", entry["STUDENT"])
        if "METHODS" not in entry and "METHODS" not in tree:
            raise ConfigError(f"{path}: METHODS is missing")
        methods = [_method(path, method) for method in as_list(path, entry if "METHODS" in entry else tree, "METHODS")]
        labels += [method["LABEL"] for method in methods]
        if entry.get("CFG", "") not in recipes:
            recipes[entry["CFG"]] = _read(config_path(entry["CFG"], path), imports)
        recipe = recipes[entry.get("CFG", "")]
        for method in methods:
            for seed in as_list(path, tree, "SEEDS")[: seeds or None]:
                cells.append(_cell(path, tree, recipe, teachers[entry["TEACHER"]], entry, method, seed, last, idle))
            places[cells[-1].pair, method["LABEL"]] = entry, method
        published |= read_published(path, entry, cells[-1].pair, [method["LABEL"] for method in methods])

    def resolve(pair: str, label: str, seed: int, values: Mapping[str, Any], idle: IdleKeys) -> Cell:
        entry, method = places[pair, label]
        layer = (f"{path}: SWEEP.SPACE.{label}", values)
        recipe = recipes[entry.get("CFG", "")]
        return _cell(path, tree, recipe, teachers[entry["TEACHER"]], entry, method, seed, last, idle, layer)

    labels, sweep = list(dict.fromkeys(labels)), None
    if "SWEEP" in tree:
        kinds = {place: str(method["TYPE"]) for place, (_, method) in places.items()}
        sweep = read_sweep(path, tree["SWEEP"], kinds, [setting.key for setting in last], resolve)
        labels = [one for label in labels for one in (label, *([tuned_label(label)] * (label in sweep.spaces)))]
    swept = () if sweep is None else sweep.spaces
    tuned = [replace(cell, method=tuned_label(cell.method)) for cell in cells if cell.method in swept]
    seen: set[tuple[str, str, int]] = set()
    for cell in [*cells, *tuned]:
        key = (cell.pair, cell.method.casefold(), cell.seed)
        if key in seen:
            raise ConfigError(
                f"{path}: the cell {cell.pair} / {cell.method} / seed {cell.seed} stands twice; give one another LABEL, "
                "or other SEEDS"
            )
        seen.add(key)
    idle.report()
    pairs = list(dict.fromkeys(cell.pair for cell in cells))
    baseline = check_baseline(path, tree, labels)
    waiting = tuple((cell, "") for cell in tuned)
    return Grid(
        tree["NAME"], teachers, cells, labels, pairs, baseline, tuple(imports), sweep, waiting, published=published
    )


def _read(path: Path | Mapping[str, Any], imports: list[str]) -> dict[str, Any]:
    """A grid, or a configuration that it names; what that imports is imported, and noted."""
    tree = read_yaml(path)
    imports += taken_imports(tree)
    import_plugins(imports)
    return tree


def _teacher(
    path: Path,
    name: str,
    node: Mapping[str, Any],
    last: list[Setting],
    check: bool,
    idle: IdleKeys,
    imports: list[str],
) -> Teacher:
    check_keys(path, f"TEACHERS.{name}.", node, keys.TEACHER)
    where = f"TEACHERS.{name}."
    check_texts(path, where, node, "CFG", "MODEL", "WEIGHTS", "TEACHER")
    as_mapping(path, where, node, "SET")
    if "CFG" in node:
        for key in ("WEIGHTS", "MODEL"):
            if key in node:
                raise ConfigError(
                    f"{path}: TEACHERS.{name} has CFG, which trains it, and {key}: give one of the two "
                    "(the weights that training starts from are SET: {STUDENT.WEIGHTS: ...})"
                )
        layers = [(str(node["CFG"]), _read(config_path(node["CFG"], path), imports)), (str(path), node.get("SET", {}))]
        above = node.get("TEACHER", "")
        cfg = _build([*layers, (str(path), {"DISTILLER.TEACHER": above})] if above else layers, last, idle)
        alone = cfg.DISTILLER.TYPE.upper() in NO_TEACHER
        if alone and above:
            raise ConfigError(
                f"{path}: TEACHERS.{name} learns from {above}, and its configuration has DISTILLER.TYPE {cfg.DISTILLER.TYPE}: "
                "name a method (SET: {DISTILLER.TYPE: KD})"
            )
        if not alone and not above:
            raise ConfigError(
                f"{path}: TEACHERS.{name}: its configuration has DISTILLER.TYPE {cfg.DISTILLER.TYPE}, not NONE; TEACHER names "
                "the one that it learns from"
            )
        return Teacher(name, cfg=cfg, above=above)
    if "TEACHER" in node:
        raise ConfigError(f"{path}: TEACHERS.{name}.TEACHER has no effect: it takes CFG, which trains it")
    if "MODEL" not in node or "WEIGHTS" not in node:
        raise ConfigError(f"{path}: TEACHERS.{name} needs CFG, or MODEL and WEIGHTS")
    weights = str(node["WEIGHTS"])
    own = Path(weights_file(str(beside(path, weights))))
    weights = weights_file(weights)
    if check and weights != "pretrained" and not own.is_file() and not user_path(weights).is_file():
        raise ConfigError(f"{path}: TEACHERS.{name}.WEIGHTS: there is no file {weights!r}")
    found = str(own) if own.is_file() else expanded(weights)
    return Teacher(name, model=node["MODEL"], weights=found, settings=node.get("SET", {}))


def _check_chains(path: Path, teachers: Mapping[str, Teacher]) -> None:
    for name in teachers:
        chain = [name]
        while above := teachers[chain[-1]].above:
            if above not in teachers:
                near = did_you_mean(above, teachers)
                raise ConfigError(f"{path}: TEACHERS.{chain[-1]}.TEACHER {above!r} is not in TEACHERS{near}")
            if above in chain:
                raise ConfigError(f"{path}: TEACHERS learn from each other: {' <- '.join([*chain, above])}")
            chain.append(above)


def _method(path: Path, entry: Any) -> dict[str, Any]:
    entry = {"TYPE": entry} if isinstance(entry, str) else entry
    check_keys(path, "METHODS.", entry, keys.METHOD, required=("TYPE",))
    check_texts(path, "METHODS.", entry, "TYPE", "LABEL", "PRESET")
    as_mapping(path, "METHODS.", entry, "SET")
    return {"LABEL": entry["TYPE"], "PRESET": "", "SET": {}, **entry}


def _cell(
    path: Path,
    tree: Mapping[str, Any],
    recipe: Mapping[str, Any],
    teacher: Teacher,
    pair: Mapping[str, Any],
    method: Mapping[str, Any],
    seed: int,
    last: list[Setting],
    idle: IdleKeys,
    over: tuple[str, Mapping[str, Any]] = ("", {}),
) -> Cell:
    alone = method["TYPE"].upper() in NO_TEACHER
    label = pair.get("LABEL", f"{pair['TEACHER']} -> {pair['STUDENT']}")
    own = {
        "DISTILLER.TYPE": method["TYPE"],
        "DISTILLER.PRESET": method["PRESET"],
        "DISTILLER.STUDENT": pair["STUDENT"],
        "DISTILLER.TEACHER": "" if alone or teacher.parts else pair["TEACHER"],
        "EXPERIMENT.SEED": seed,
        "EXPERIMENT.TAG": method["LABEL"],
    }
    settings = (
        {} if alone or teacher.cfg is not None else teacher.settings
    )  # TEACHER.NORM and the like of given weights
    if teacher.parts and not alone:
        own["DISTILLER.TEACHERS"] = [_entry(path, part) for part in teacher.parts]
    layers = [(str(pair.get("CFG", tree.get("CFG", path))), recipe)]
    layers += [(str(path), layer) for layer in (tree.get("SET", {}), settings, pair.get("SET", {}), own, method["SET"])]
    cfg = _build([*layers, over], last, idle)
    return Cell(label, "" if alone else pair["TEACHER"], pair["STUDENT"], method["LABEL"], seed, cfg)


def _entry(path: Path, teacher: Teacher) -> dict[str, Any]:
    """One of several teachers: its name in the grid, which its network takes the place of, and the keys of TEACHER that are its
    own."""
    given = {} if teacher.cfg is not None else {s.key: s.value for s in flatten(teacher.settings, str(path))}
    for key in given:
        if not key.startswith("TEACHER."):
            raise ConfigError(
                f"{path}: TEACHERS.{teacher.name}.SET: {key} is no key of a teacher, of which several are named together"
            )
    return {"MODEL": teacher.name, **{key.removeprefix("TEACHER."): value for key, value in given.items()}}


def _build(layers: Sequence[tuple[str, Mapping[str, Any]]], last: list[Setting], idle: IdleKeys) -> CfgNode:
    """The first layer is a recipe, which may hold what this run does not use."""
    settings = [
        Setting(s.key, s.value, source, own=number > 0)
        for number, (source, layer) in enumerate(layers)
        for s in flatten(layer, source)
    ]
    return build_config(idle.count([*settings, *last]), idle=idle.note)
