"""The section ``SWEEP`` of a grid file: every method is tuned with the same number of trials.

.. code-block:: yaml

    SWEEP:
      TRIALS: 8                         # for each method and pair
      SEEDS: [101]                      # of the trials; a trial's score is the mean over them
      SAMPLER: random                   # random (default), qmc or tpe
      ROUNDS: 1                         # tpe learns between rounds
      METHODS: [KD, DKD]                # labels of METHODS; default: all that have a space
      SPACE:
        ALL: {SOLVER.LR: [0.05, 0.1]}   # holds for every method that is tuned
        KD: {TEMPERATURE: [1, 2, 4], LOSS.KD_WEIGHT: {LOW: 0.1, HIGH: 10, LOG: true}}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdbench.bench.grids.grid import Cell, Range, Space, Sweep
from kdbench.bench.grids.reading import keys
from kdbench.bench.grids.reading.checks import as_list, as_mapping, check_keys, check_seeds
from kdbench.bench.grids.reading.idle_keys import IdleKeys
from kdbench.bench.grids.reading.space import check_space, read_space
from kdbench.errors import ConfigError, did_you_mean, shown

_SAMPLERS = ("random", "qmc", "tpe")
#: the space that every tuned method has
_ALL = "ALL"
#: the cell of (pair, label, seed) with values put over it; the last notes keys that act on nothing
Resolve = Callable[[str, str, int, Mapping[str, Any], IdleKeys], Cell]


def read_sweep(
    path: Path, node: Any, places: Mapping[tuple[str, str], str], given: Sequence[str], resolve: Resolve
) -> Sweep:
    """Read the section, and try the ends of every space on every pair.

    Args:
        path: the grid file, for messages.
        node: what stands under ``SWEEP``.
        places: ``DISTILLER.TYPE`` by pair and label, of every method of the grid.
        given: keys of the command line, which win over every trial.
        resolve: see above.

    Raises:
        ConfigError: anything that is wrong, in one line.
    """
    check_keys(path, "SWEEP.", node, keys.SWEEP, required=("TRIALS", "SEEDS", "SPACE"))
    trials, rounds = (_count(path, f"SWEEP.{key}", node.get(key, 1)) for key in ("TRIALS", "ROUNDS"))
    seeds = as_list(path, node, "SEEDS", "SWEEP.")
    check_seeds(path, seeds, "SWEEP.")
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"{path}: SWEEP.SEEDS has a seed twice: {seeds}")
    sampler = node.get("SAMPLER", "random")
    if sampler not in _SAMPLERS:
        near = did_you_mean(str(sampler), _SAMPLERS)
        raise ConfigError(f"{path}: SWEEP.SAMPLER {shown(sampler)} is none of {', '.join(_SAMPLERS)}{near}")
    _check_rounds(path, sampler, trials, rounds)
    spaces = _spaces(path, node, places)
    for label, space in spaces.items():
        where = f"SWEEP.SPACE.{label}"
        for key in space:
            if key in given:
                raise ConfigError(f"{path}: {where}.{key} is given on the command line, too: no trial could change it")
        for pair in (pair for pair, other in places if other == label):
            cfg = resolve(pair, label, seeds[0], {}, IdleKeys()).cfg
            if cfg.DATASET.VAL_FRACTION <= 0:
                raise ConfigError(
                    f"{path}: SWEEP chooses on the validation part, and {pair} / {label} has none: "
                    "set DATASET.VAL_FRACTION above 0 (SET: {DATASET.VAL_FRACTION: 0.1})"
                )
            check_space(
                path,
                where,
                space,
                pair,
                label,
                lambda pair, label, values, idle: resolve(pair, label, seeds[0], values, idle),
            )

    def cell(pair: str, label: str, seed: int, values: Mapping[str, Any]) -> Cell:
        return resolve(pair, label, seed, values, IdleKeys())

    return Sweep(trials, tuple(seeds), sampler, rounds, spaces, cell)


def _count(path: Path, where: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{path}: {where} expects a whole number from 1, got {shown(value)}")
    return value


def _check_rounds(path: Path, sampler: str, trials: int, rounds: int) -> None:
    if sampler == "tpe" and rounds < 2:
        raise ConfigError(f"{path}: SWEEP.SAMPLER tpe learns between rounds: ROUNDS expects at least 2, got {rounds}")
    if sampler != "tpe" and rounds > 1:
        raise ConfigError(f"{path}: SWEEP.ROUNDS has no effect: it takes SAMPLER tpe, which is {sampler}")
    if trials % rounds:
        raise ConfigError(f"{path}: SWEEP.TRIALS {trials} cannot be divided by ROUNDS {rounds}")


def _spaces(path: Path, node: Mapping[str, Any], places: Mapping[tuple[str, str], str]) -> dict[str, Space]:
    """The space of each method that is tuned, in the grid's order."""
    kinds = {label: kind for (_, label), kind in reversed(list(places.items()))}
    labels = list(dict.fromkeys(label for _, label in places))
    given = as_mapping(path, "SWEEP.", node, "SPACE")
    for label in given:
        if label != _ALL and label not in labels:
            near = did_you_mean(str(label), labels)
            raise ConfigError(f"{path}: SWEEP.SPACE.{label} is none of the methods{near}: {', '.join(labels)}")
    shared = read_space(path, f"SWEEP.SPACE.{_ALL}", given[_ALL], "") if _ALL in given else {}
    chosen = (
        as_list(path, node, "METHODS", "SWEEP.")
        if "METHODS" in node
        else [one for one in labels if shared or one in given]
    )
    spaces: dict[str, Mapping[str, tuple[Any, ...] | Range]] = {}
    for label in chosen:
        if chosen.count(label) > 1:
            raise ConfigError(f"{path}: SWEEP.METHODS names {shown(label)} twice")
        if label not in labels:
            near = did_you_mean(str(label), labels)
            raise ConfigError(f"{path}: SWEEP.METHODS {shown(label)} is none of the methods{near}: {', '.join(labels)}")
        own = read_space(path, f"SWEEP.SPACE.{label}", given[label], kinds[label]) if label in given else {}
        if not (shared or own):
            raise ConfigError(f"{path}: SWEEP.METHODS names {label}, which has no space: add SWEEP.SPACE.{label}")
        spaces[label] = {**shared, **own}
    for label in given:
        if label != _ALL and label not in spaces:
            raise ConfigError(f"{path}: SWEEP.SPACE.{label} has no effect: SWEEP.METHODS does not name it")
    if not spaces:
        raise ConfigError(f"{path}: SWEEP.SPACE is empty: name a method and its keys with their values")
    return {label: spaces[label] for label in labels if label in spaces}
