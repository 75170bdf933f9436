"""Several teachers of one student, ``DISTILLER.TEACHERS``: each as a configuration of its own, in which it is the only one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from yacs.config import CfgNode

from kdbench.config.defaults import Tree, defaults
from kdbench.config.values import Text, convert, decode, fresh
from kdbench.errors import ConfigError, did_you_mean, shown
from kdbench.paths import expanded, weights_file

#: between the names of several teachers, in tables and names of runs
AND = " + "
#: keys of TEACHER that are none of a single teacher among several
_SHARED = ("PRECISION", "FREEZE")


def read_teachers(value: Any) -> tuple[dict[str, Any], ...]:
    """The entries of ``DISTILLER.TEACHERS`` as mappings: ``MODEL``, the network, and keys that are put over those of ``TEACHER``.

    Raises:
        ValueError: it is no such list; the message says what was expected.
    """
    own = {key: default for key, default in defaults()["TEACHER"].items() if key not in _SHARED}
    entries: list[dict[str, Any]] = []
    if isinstance(value, Text):
        value = decode(value)
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    for entry in value if isinstance(value, (list, tuple)) else [value]:
        made = {"MODEL": entry} if isinstance(entry, str) else entry
        if not isinstance(made, Mapping) or not isinstance(made.get("MODEL"), str) or not made["MODEL"]:
            raise ValueError(f"expects networks, or {{MODEL: network, WEIGHTS: file, ...}}, got {shown(entry)}")
        for key in made:
            if key not in ("MODEL", *own):
                near = did_you_mean(str(key), ["MODEL", *own])
                raise ValueError(f"a teacher has no key {shown(key)}{near}; it has MODEL, {', '.join(own)}")
        try:
            values = {key: convert(f"TEACHER.{key}", part, own[key]) for key, part in made.items() if key != "MODEL"}
        except ValueError as error:
            raise ValueError(f"{made['MODEL']}: {error}") from None
        entries.append({"MODEL": made["MODEL"], **values})
    if any(entry in entries[:number] for number, entry in enumerate(entries)):
        raise ValueError("the same teacher stands twice")
    return tuple(entries)


def complete_teachers(tree: Tree) -> None:
    """Write the entries of ``DISTILLER.TEACHERS`` out: paths expanded, a list of one as the teacher that it is.

    Raises:
        ConfigError: a path that is none, or ``DISTILLER.TEACHER`` beside the list.
    """
    node = tree["DISTILLER"]
    if not node["TEACHERS"]:
        return
    if node["TEACHER"]:
        raise ConfigError(
            f"DISTILLER.TEACHER {node['TEACHER']} beside DISTILLER.TEACHERS: name one teacher there, or all of them here"
        )
    for entry in node["TEACHERS"]:
        if isinstance(entry.get("WEIGHTS"), str):
            entry["WEIGHTS"] = weights_file(expanded(entry["WEIGHTS"]))
    if len(node["TEACHERS"]) == 1:
        [only] = each_tree(tree)
        tree.update(only)


def each_tree(tree: Mapping[str, Any]) -> Iterator[Tree]:
    """For each teacher of a tree the same tree with that one alone; none without a teacher."""
    node = tree["DISTILLER"]
    if node["TEACHER"]:
        yield dict(tree)
        return
    for entry in node.get("TEACHERS", ()):
        own = {key: fresh(value) for key, value in entry.items() if key != "MODEL"}
        yield {
            **tree,
            "DISTILLER": {**node, "TEACHER": entry["MODEL"], "TEACHERS": ()},
            "TEACHER": {**fresh(tree["TEACHER"]), **own},
        }


def each_teacher(cfg: CfgNode) -> list[CfgNode]:
    """For each teacher of a configuration the same configuration with that one alone; a single one is the configuration itself."""
    found = []
    for entry in cfg.DISTILLER.TEACHERS:
        made = cfg.clone()
        made.defrost()
        made.DISTILLER.TEACHER, made.DISTILLER.TEACHERS = entry["MODEL"], ()
        for key, value in entry.items():
            if key != "MODEL":
                made.TEACHER[key] = type(cfg)(fresh(value)) if isinstance(value, Mapping) else value
        made.freeze()
        found.append(made)
    return found or ([cfg] if cfg.DISTILLER.TEACHER else [])


def with_teachers(cfg: CfgNode, each: list[CfgNode]) -> CfgNode:
    """The configuration of which :func:`each_teacher` gives ``each``; for what has been changed in them."""
    if not cfg.DISTILLER.TEACHERS:
        return each[0] if each else cfg
    made = cfg.clone()
    made.defrost()
    entries = []
    for entry, one in zip(cfg.DISTILLER.TEACHERS, each):
        known = {key: _plain(value) for key, value in one.TEACHER.items()}
        common = {key: _plain(value) for key, value in cfg.TEACHER.items()}
        own = {key: value for key, value in known.items() if key in entry or value != common[key]}
        entries.append({"MODEL": one.DISTILLER.TEACHER, **own})
    made.DISTILLER.TEACHERS = tuple(entries)
    made.freeze()
    return made


def teacher_name(cfg: CfgNode) -> str:
    """The teacher's network, those of several joined (``a + b``); empty without one."""
    return AND.join(entry["MODEL"] for entry in cfg.DISTILLER.TEACHERS) or str(cfg.DISTILLER.TEACHER)


def _plain(value: Any) -> Any:
    return {key: _plain(part) for key, part in value.items()} if isinstance(value, Mapping) else value
