"""Which keys of a configuration act only beside others, and which of the given keys act on nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kdbench.catalogue import Method
from kdbench.config.defaults import DOT_TRAINERS, PLACED
from kdbench.config.names import called_otherwise
from kdbench.domains import Domain, show, violation

#: Other keys and what they must be; () = anything but empty. A text instead says why a key never acts.
Condition = Mapping[str, Domain] | str
NO_TEACHER = ("NONE", "VANILLA")
#: Data sets that lie in memory, whose standard crop is ``pad``.
_IN_MEMORY = ("digits", "fake", "cifar10", "cifar100", "mnist", "fashion_mnist", "kmnist")
#: what timm's recipes give along and do not use
_ALONG = ("AUGMENT.COLOR_JITTER",)
_CROPPED = {"AUGMENT.CROP": ("auto", "rrc")}
_STORED = {"CACHE.ENABLED": (True,)}
_SGD = {"SOLVER.TYPE": ("SGD",)}

#: Of a key, the alternatives under one of which it acts.
EFFECTIVE: dict[str, tuple[Mapping[str, Any], ...]] = {
    "DATASET.SUBSET_SEED": ({"DATASET.PER_CLASS": "[1, inf)"},),
    "AUGMENT.PAD": ({"AUGMENT.CROP": ("auto", "pad")},),
    "AUGMENT.RRC_SCALE": (_CROPPED,),
    "AUGMENT.RRC_RATIO": (_CROPPED,),
    "AUGMENT.INTERPOLATION": (_CROPPED, {"AUGMENT.AUTO": ()}),
    "AUGMENT.COLOR_JITTER": ({"AUGMENT.AUTO": ("",)},),
    "AUGMENT.MIXUP_SWITCH": ({"AUGMENT.MIXUP": "(0, inf)", "AUGMENT.CUTMIX": "(0, inf)"},),
    "TEACHER.WEIGHTS_EMA": ({"TEACHER.WEIGHTS": ()},),
    "TEACHER.HEAD": ({"TEACHER.WEIGHTS": ()},),
    "STUDENT.WEIGHTS_EMA": ({"STUDENT.WEIGHTS": ()},),
    "STUDENT.HEAD": ({"STUDENT.WEIGHTS": ()},),
    "SOLVER.MOMENTUM": (_SGD,),
    "SOLVER.NESTEROV": (_SGD,),
    "SOLVER.LR_DECAY_STAGES": ({"SOLVER.SCHEDULE": ("step",)},),
    "SOLVER.LR_DECAY_RATE": ({"SOLVER.SCHEDULE": ("step",)},),
    "SOLVER.MIN_LR": ({"SOLVER.SCHEDULE": ("cosine",)},),
    "SOLVER.WARMUP_LR": ({"SOLVER.WARMUP_EPOCHS": "(0, inf)"},),
    "SOLVER.SCHEDULE_PER": ({"SOLVER.SCHEDULE": ("step", "cosine")}, {"SOLVER.WARMUP_EPOCHS": "(0, inf)"}),
    "SOLVER.DOT.DELTA": ({"SOLVER.TRAINER": DOT_TRAINERS},),
    "SOLVER.BCE_TARGET_THRESH": ({"SOLVER.TASK_LOSS": ("bce",)},),
    "SOLVER.MAX_SKIPPED": ({"SOLVER.NON_FINITE": ("skip",)},),
    "CACHE.DTYPE": (_STORED,),
    "CACHE.MAX_GB": (_STORED,),
}


def idle_keys(
    keys: Sequence[str],
    tree: Mapping[str, Any],
    used: Mapping[str, Method],
    nodes: Mapping[str, Any],
    *,
    taught: bool,
    training: bool,
) -> Iterator[tuple[str, str, bool]]:
    """The keys that act on nothing: (key, why, whether that is merely noted: what other projects' files hold).

    Args:
        keys: those that were given.
        tree: the complete tree, with the nodes of all methods.
        used: the methods in use by the names of their nodes.
        nodes: every method's node by name.
        taught: keys of the teacher act on nothing where no teacher is used; False leaves them alone.
        training: the run is a student's, and not that of its teacher.
    """
    kind = str(tree["DISTILLER"]["TYPE"])
    alone = all(name in NO_TEACHER for name in used)
    for key in dict.fromkeys(keys):
        node, _, rest = key.partition(".")
        if node in nodes:
            if node not in used:
                near = called_otherwise(rest, {name: nodes.get(name, {}) for name in used}) if rest else ""
                yield key, f"DISTILLER.TYPE is {kind}, which has keys of its own{near}", True
                continue
            why = _reason(node, used[node].effective.get(rest), tree)
        elif alone and (key in ("DISTILLER.TEACHER", "DISTILLER.TEACHERS", "CACHE.ENABLED") or node == "TEACHER"):
            why = (
                f"DISTILLER.TYPE is {kind}, which learns from no teacher (--distiller names a method)" if taught else ""
            )
        elif key == "TEACHER.FREEZE":
            why = "a teacher is frozen in any case; it is for `kdbench teacher`" if training else ""
        else:
            why = _special(key, tree, used) or _none_holds(key, tree)
        if why:
            yield key, why, key in _ALONG or (not why.startswith("it takes") and node in nodes)


def _special(key: str, tree: Mapping[str, Any], used: Mapping[str, Method]) -> str:
    """Conditions that compare more than one value."""
    kind = str(tree["DATASET"]["TYPE"])
    if key == "DATASET.ROOT" and (
        kind.lower() in ("digits", "fake") or kind.lower().startswith(tuple(f"{one}:" for one in (*PLACED, "given")))
    ):
        return f"DATASET.TYPE is {kind}, which does not look there"
    augment = tree["AUGMENT"]
    of_crop = key in ("AUGMENT.RRC_SCALE", "AUGMENT.RRC_RATIO") or (
        key == "AUGMENT.INTERPOLATION" and not augment["AUTO"]
    )
    if of_crop and augment["CROP"] == "auto" and kind.lower() in _IN_MEMORY:
        return f"it takes AUGMENT.CROP=rrc; of {kind} the standard (auto) is pad"
    if key == "SOLVER.LR_DECAY_STAGES" and tree["SOLVER"]["SCHEDULE"] == "step":
        stages, epochs = tree["SOLVER"]["LR_DECAY_STAGES"], tree["SOLVER"]["EPOCHS"]
        if stages and isinstance(epochs, int) and all(isinstance(s, (int, float)) and s >= epochs for s in stages):
            return f"none of them comes before the last of SOLVER.EPOCHS={epochs}"
    if key in ("DISTILLER.PART_WEIGHTS", "DISTILLER.PART_CE_WEIGHTS") and len(used) < 2:
        return f"it takes several methods (DISTILLER.TYPE=CRD+KD), and DISTILLER.TYPE is {tree['DISTILLER']['TYPE']}"
    return ""


def _none_holds(key: str, tree: Mapping[str, Any]) -> str:
    found = [_reason("", condition, tree) for condition in EFFECTIVE.get(key, ())]
    return (
        ""
        if not all(found) or not found
        else " or ".join([found[0], *(why.removeprefix("it takes ") for why in found[1:])])
    )


def _reason(prefix: str, condition: Condition | None, tree: Mapping[str, Any]) -> str:
    """Why a condition does not hold; empty where it does."""
    if condition is None or isinstance(condition, str):
        return condition or ""
    for other, domain in condition.items():
        name = f"{prefix}.{other}" if prefix else other
        value: Any = tree
        for part in name.split("."):
            value = value[part]
        if domain == ():
            if not value:
                return f"it takes a value of {name}, which is empty"
        elif value not in domain if isinstance(domain, tuple) else violation(value, domain) is not None:
            words = (
                "=" + " or ".join(str(v) or "''" for v in domain)
                if isinstance(domain, tuple)
                else f" in {show(domain)}"
            )
            return f"it takes {name}{words}, which is {value if value != '' else 'empty'}"
    return ""
