"""The space of values over which a grid tunes a method: read from the grid file, and held against what the method knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdbench.bench.grids.grid import Cell, Range, Space
from kdbench.bench.grids.reading.checks import check_keys
from kdbench.bench.grids.reading.idle_keys import IdleKeys
from kdbench.catalogue import methods
from kdbench.config.defaults import RENAMED, defaults
from kdbench.config.names import suggestion
from kdbench.errors import ConfigError, shown

_RANGE = {"LOW", "HIGH", "LOG", "STEP"}
#: what all methods of a pair share, or what a trial cannot change: a trial of it would be another comparison
_SHARED = (
    "DATASET",
    "AUGMENT",
    "EXPERIMENT",
    "LOG",
    "RUNTIME",
    "CACHE",
    "DISTILLER.TYPE",
    "DISTILLER.TEACHER",
    "DISTILLER.TEACHERS",
    "DISTILLER.STUDENT",
)
#: a cell with values put over it: (pair, label, values, what notes keys that act on nothing)
Resolve = Callable[[str, str, Mapping[str, Any], IdleKeys], Cell]


def read_space(path: Path, where: str, node: Any, kind: str) -> dict[str, tuple[Any, ...] | Range]:
    """Values by the full name of their key, from ``SWEEP.SPACE.<label>``.

    Args:
        path: the grid file, for messages.
        where: dotted keys that lead to ``node``.
        node: keys with their lists or ranges. A key of the method's own node may stand without the node's name.
        kind: ``DISTILLER.TYPE`` of the method; empty for what holds for every method.

    Raises:
        ConfigError: an unknown key, one that is no method's to choose, a list or range that is none; one line.
    """
    if not isinstance(node, Mapping) or not node:
        raise ConfigError(f"{path}: {where} expects keys with their lists or ranges of values, got {shown(node)}")
    space: dict[str, tuple[Any, ...] | Range] = {}
    for key, value in _leaves(node):
        full = _full_name(f"{path}: {where}", key, kind)
        if full in space:
            raise ConfigError(f"{path}: {where}.{full} stands twice")
        space[full] = _read_range(path, f"{where}.{key}", value) if isinstance(value, Mapping) else _read_list(value)
        if not space[full]:
            raise ConfigError(
                f"{path}: {where}.{key} expects a list of different values, or a range {{LOW: ..., HIGH: ...}}, "
                f"got {shown(value)}"
            )
    return space


def check_space(path: Path, where: str, space: Space, pair: str, label: str, resolve: Resolve) -> None:
    """Refuse values that the method's keys do not take, and keys that act on nothing whatever the others are.

    Raises:
        ConfigError: one is; the message names the key.
    """
    for key, values in space.items():
        others = [{}, *({other: value} for other in space if other != key for value in _ends(space[other]))]
        reasons = [_idle(key, value, others, pair, label, resolve) for value in _ends(values)]
        if all(reasons):
            raise ConfigError(f"{path}: {where}.{key} has no effect: {reasons[0]}")


def _idle(key: str, value: Any, others: Sequence[Mapping[str, Any]], pair: str, label: str, resolve: Resolve) -> str:
    """Why a value acts on nothing, whatever stands beside it; empty where it acts.

    Raises:
        ConfigError: the key does not take it, whatever stands beside it.
    """
    refused: list[ConfigError] = []
    reasons: list[str] = []
    for beside in others:
        idle = IdleKeys()
        try:
            resolve(pair, label, {**beside, key: value}, idle)
        except ConfigError as error:  # two values that do not go together make a trial that fails
            refused.append(error)
            continue
        reasons.append(next((why for (_, name), why in idle.reasons.items() if name == key), ""))
        if not reasons[-1]:
            return ""
    if not reasons:
        raise refused[0]
    return reasons[0]


def _ends(values: tuple[Any, ...] | Range) -> tuple[Any, ...]:
    return (values.low, values.high) if isinstance(values, Range) else values


def _leaves(node: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and what stands there: a list, a range or something else."""
    for key, value in node.items():
        if isinstance(value, Mapping) and value and not ({"LOW", "HIGH"} & set(value)):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _full_name(where: str, key: str, kind: str) -> str:
    known = methods()
    sections = defaults()
    nodes = {name.upper(): known.get(name).defaults for name in known.names()}
    first = key.partition(".")[0]
    own = {known.canonical(part.strip()).upper() for part in kind.split("+")} if kind else set()
    if key in RENAMED:
        raise ConfigError(f"{where}.{key} is called {RENAMED[key][0]} here")
    if first in sections or first in nodes:
        network = first in ("TEACHER", "STUDENT") and not key.endswith(".STAGES")
        if network or any(key == one or key.startswith(f"{one}.") for one in _SHARED):
            raise ConfigError(f"{where}.{key} is no trial's to choose: the runs of a comparison share it")
        return key
    holders = sorted(name for name in own if first in nodes[name])
    if len(holders) == 1:
        return f"{holders[0]}.{key}"
    if holders:
        raise ConfigError(
            f"{where}.{key} is a key of several methods: write {' or '.join(f'{n}.{key}' for n in holders)}"
        )
    one = {name: value for holder in own for name, value in nodes[holder].items()}
    near = suggestion(key, one) or suggestion(key, {**sections, **{name: nodes[name] for name in own}})
    raise ConfigError(f"{where}: unknown key {key}{near}")


def _read_list(value: Any) -> tuple[Any, ...]:
    """The values of a list; none where it is not one, or has a value twice."""
    if not isinstance(value, list) or any(value.index(one) != place for place, one in enumerate(value)):
        return ()
    return tuple(value)


def _read_range(path: Path, where: str, node: Mapping[str, Any]) -> Range:
    check_keys(path, f"{where}.", node, _RANGE, required=("LOW", "HIGH"))
    bounds = {key: _number(path, f"{where}.{key}", node[key]) for key in ("LOW", "HIGH", "STEP") if key in node}
    log = node.get("LOG", False)
    if not isinstance(log, bool):
        raise ConfigError(f"{path}: {where}.LOG expects true or false, got {shown(log)}")
    low, high, step = bounds["LOW"], bounds["HIGH"], bounds.get("STEP")
    if not low < high:
        raise ConfigError(f"{path}: {where} expects LOW below HIGH, got {low} and {high}")
    if log and (low <= 0 or step is not None):
        raise ConfigError(f"{path}: {where} expects LOG with LOW above 0 and without STEP")
    if step is not None and (step <= 0 or abs((high - low) / step - round((high - low) / step)) > 1e-9):
        raise ConfigError(f"{path}: {where} expects a STEP above 0 that leads from LOW to HIGH, got {step}")
    if all(isinstance(bound, int) for bound in (low, high)) and isinstance(step, float):
        low, high = float(low), float(high)
    return Range(low, high, log, step)


def _number(path: Path, where: str, value: Any) -> int | float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300:
        return value
    try:  # YAML 1.1 reads 1e-3 as text
        return float(value) if isinstance(value, str) and abs(float(value)) < 1e300 else _refuse(path, where, value)
    except ValueError:
        return _refuse(path, where, value)


def _refuse(path: Path, where: str, value: Any) -> int:
    raise ConfigError(f"{path}: {where} expects a number, got {shown(value)}")
