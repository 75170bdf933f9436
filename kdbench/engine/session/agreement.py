"""Several processes of one run: whether all were given the same work, before they begin it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yacs.config import CfgNode

from kdbench.config.identity import decisive
from kdbench.data.source import DataSource
from kdbench.processes.place import rank_and_world
from kdbench.processes.together import agree

_WORDS = {"teacher_sha256": "the hash of the teacher's weights", "student_sha256": "the hash of the student's weights"}


def check_agreement(cfg: CfgNode, data: DataSource, more: Mapping[str, Any]) -> None:
    """Refuse a run whose processes have other configurations, data, weights or code; every process comes here.

    Args:
        cfg: this process's; paths, logging and hardware may differ.
        data: its data set.
        more: what else must be the same, by what it is; ``teacher_sha256`` and ``student_sha256`` are put into words.

    Raises:
        ConfigError: they differ; says in what, in all processes alike.
    """
    if rank_and_world()[1] == 1:
        return
    facts: dict[str, Any] = {_WORDS.get(key, key): value for key, value in more.items()}
    todo: list[tuple[str, Mapping[str, Any]]] = [("", decisive(cfg))]
    while todo:
        prefix, node = todo.pop()
        for key, value in node.items():
            if isinstance(value, Mapping):
                todo.append((f"{prefix}{key}.", value))
            else:
                facts[f"{prefix}{key}"] = value
    for name, split in {"training": data.train, "validation": data.val, "test": data.test}.items():
        facts[f"the number of {name} images"] = 0 if split is None else len(split)
    agree("work", facts | {"the fingerprint of the data": data.fingerprint()})
