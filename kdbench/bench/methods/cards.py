"""A card for each method (``docs/methods``), made from its class and from what was measured.

``python tools/cards.py`` writes them; a test holds them against the classes.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Set
from pathlib import Path
from typing import Any

import yaml
from tabulate import tabulate

from kdbench.bench.methods.conformance import FAMILIES
from kdbench.config.load import load_config
from kdbench.distillers.base import Distiller, distillers
from kdbench.distillers.create import create_distiller
from kdbench.domains import show
from kdbench.engine.teacher.outputs import STORED
from kdbench.errors import IncompatibleError
from kdbench.models.spec import ModelSpec

#: pairs whose extra parameters a card tells
PAIRS = (("timm:swin_tiny_patch4_window7_224", "timm:resnet18"), ("timm:resnet34", "timm:resnet18"))
#: measured steps of every method on these pairs, against KD's
COSTS = Path(__file__).with_name("costs.json")


def write_cards(folder: Path, matrix: dict[str, dict[str, str]]) -> None:
    """Write ``<name>.md`` for every registered method, and the index."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in make_cards(matrix).items():
        (folder / name).write_text(text, encoding="utf-8")


def make_cards(matrix: dict[str, dict[str, str]]) -> dict[str, str]:
    """File name -> text of every card and of the index ``README.md``.

    Args:
        matrix: the conformance table.
    """
    costs = json.loads(COSTS.read_text(encoding="utf-8")) if COSTS.is_file() else []
    specs = {name: _spec(name) for pair in PAIRS for name in pair}
    texts: dict[str, str] = {}
    rows = []
    for name in distillers.names():
        cls = distillers.get(name)
        if not cls.__module__.startswith("kdbench."):
            continue
        extra = [_extra_parameters(name, specs[t], specs[s]) for t, s in PAIRS]
        texts[f"{name.lower()}.md"] = _card(cls, extra, costs, matrix.get(name, {}))
        outcomes = list(matrix.get(name, {}).values())
        runs = f"{outcomes.count('runs')} of {len(outcomes)}"
        rows.append(
            [f"[{name}]({name.lower()}.md)", cls.verified, _needs(cls.teacher_needs), runs]
            + [_cost(pair, name) for pair in costs]
        )
    head = ["method", "verified against", "of the teacher", "pairs of families"]
    head += [f"step, x KD ({_pair(cost)})" for cost in costs]
    index = tabulate(rows, head, tablefmt="pipe", disable_numparse=True)
    texts["README.md"] = f"# Methods\n\n{index}\n\n{_matrix_text(matrix)}{_cost_text(costs)}"
    return texts


def _card(cls: type[Distiller], extra: list[str], costs: list[dict[str, Any]], matrix: dict[str, str]) -> str:
    parts = [f"# {cls.name}", inspect.cleandoc(cls.__doc__ or ""), f"**Paper.** {cls.reference}."]
    parts.append(f"**Verified against.** {cls.verified}.")
    facts = [
        ("needs of the teacher", _needs(cls.teacher_needs)),
        ("needs of the student", _needs(cls.student_needs)),
        ("works with stored teacher outputs", "yes" if _cacheable(cls) else "no"),
        ("labels of the whole training set", "yes" if cls.needs_labels else "no"),
        *((("changes the student that is deployed", "yes"),) if cls.adapts_student else ()),
        ("couples the samples of a batch", "yes" if cls.batch_coupled else "no"),
        ("smallest batch, fewest classes", f"{cls.min_batch}, {cls.min_classes}"),
        *(
            [("images of a sample in a step", f"{1 + len(cls.looks)} ({', '.join(('the usual one', *cls.looks))})")]
            if cls.looks
            else []
        ),
        *((f"extra parameters, {_short(t)} -> {_short(s)}, 100 classes", n) for (t, s), n in zip(PAIRS, extra)),
    ]
    facts += [
        (f"step against KD's, {_pair(cost)}", f"{_cost(cost, cls.name)} x") for cost in costs if _cost(cost, cls.name)
    ]
    parts.append(tabulate(facts, ["", ""], tablefmt="pipe", disable_numparse=True))
    parts.append(_losses(cls))
    parts.append(f"## Hyperparameters\n\nDefaults (node `{cls.name.upper()}`):\n\n```yaml\n{_yaml(cls.defaults)}```")
    if cls.domains:
        rows = [(f"`{key}`", show(domain)) for key, domain in cls.domains.items()]
        parts.append(tabulate(rows, ["key", "what it may be"], tablefmt="pipe", disable_numparse=True))
    if cls.presets:
        presets = "".join(
            f"{name}:\n{_indent(_yaml(values))}" if values else f"{name}: {{}}\n"
            for name, values in cls.presets.items()
        )
        parts.append(f"Other published settings, chosen with `DISTILLER.PRESET`:\n\n```yaml\n{presets}```")
    refused: dict[str, list[str]] = {}
    for pair, outcome in matrix.items():
        if outcome != "runs":
            refused.setdefault(outcome.split(": ", 1)[-1], []).append(pair)
    if refused:
        lines = "\n".join(f"- {', '.join(pairs)}: {reason}" for reason, pairs in refused.items())
        parts.append(f"## Refused pairs of families (teacher -> student)\n\n{lines}")
    return "\n\n".join(part for part in parts if part) + "\n"


def _losses(cls: type[Distiller]) -> str:
    module = sys.modules[cls.__module__]
    functions = [
        (name, fn)
        for name, fn in vars(module).items()
        if inspect.isfunction(fn)
        and fn.__module__ == module.__name__
        and name.endswith("_loss")
        and not name.startswith("_")
    ]
    texts = []
    for name, fn in functions:
        doc = inspect.cleandoc(fn.__doc__ or "").split("\n\nArgs:")[0]
        parameters = ", ".join(inspect.signature(fn).parameters)
        texts.append(f"`kdbench.functional.{name}({parameters})`\n\n{doc}")
    return "## Loss\n\n" + "\n\n".join(texts) if texts else ""


def _extra_parameters(name: str, teacher: ModelSpec, student: ModelSpec) -> str:
    import torch

    from kdbench.distillers.base import DataInfo

    info = DataInfo(student.num_classes, 50_000, torch.arange(50_000) % student.num_classes)
    try:
        method = create_distiller(name, student, teacher, load_config(overrides={"DISTILLER.TYPE": name}), data=info)
    except IncompatibleError:
        return "refused"
    return f"{method.extra_parameters():,}"


def _spec(name: str) -> ModelSpec:
    from kdbench.models.zoo import create_model

    return create_model(name, num_classes=100, seed=0).spec


def _cacheable(cls: type[Distiller]) -> bool:
    return cls.teacher_needs <= STORED and not cls.needs_networks and not cls.grad_teacher


def _needs(needs: Set[str]) -> str:
    return ", ".join(sorted(needs)) or "nothing"


def _short(name: str) -> str:
    return name.rpartition(":")[2].split("_patch")[0]


def _yaml(values: dict[str, Any]) -> str:
    plain = json.loads(json.dumps(values))
    return yaml.safe_dump(plain, sort_keys=False) if plain else "{}\n"


def _indent(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())


def _matrix_text(matrix: dict[str, dict[str, str]]) -> str:
    pairs = [f"{t} -> {s}" for t in FAMILIES for s in FAMILIES]
    rows = [[name, *("x" if matrix[name].get(pair) == "runs" else "" for pair in pairs)] for name in matrix]
    table = tabulate(rows, ["", *pairs], tablefmt="pipe")
    return (
        "## Which pairs of families a method runs on (x), teacher -> student\n\n"
        f"`token` is a ViT that classifies by its class token; reasons of a refusal stand on the method's card.\n\n{table}\n"
    )


def _pair(cost: dict[str, Any]) -> str:
    return f"{_short(cost['teacher'])} -> {_short(cost['student'])}"


def _cost(cost: dict[str, Any], name: str) -> str:
    value = cost["x KD"].get(name)
    return "" if value is None else f"{value:.2f}"


def _cost_text(costs: list[dict[str, Any]]) -> str:
    if not costs:
        return ""
    return f"\nSteps (teacher, student, backward, SGD) were measured once: {costs[0]['measured']}. An empty cell: refused.\n"
