"""Where the weights lie in what a file holds: containers, moving averages, and the prefixes of wrappers."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdbench.errors import ModelError, shown
from kdbench.models.weights.inert import InertArray
from kdbench.models.weights.torch_files import some

log = logging.getLogger(__name__)
State = dict[str, Tensor]

#: where training scripts put the weights: timm and OFAKD, mdistiller and RepDistiller, Lightning, the authors' own
STATE_KEYS = (
    *("state_dict", "model", "student", "net", "network", "model_state_dict", "model_state", "student_state_dict"),
    *("net_state_dict", "weights", "params", "state", "backbone", "encoder", "module"),
)
EMA_KEYS = (
    *("state_dict_ema", "model_ema", "ema", "ema_state_dict", "ema_model", "model_ema_state_dict", "params_ema"),
    *("ema_weights", "student_ema"),
)
#: what wrappers put in front of every key, in any nesting
PREFIXES = ("module.", "model.", "net.", "backbone.", "student.", "timm_model.")
#: what torch.compile, FSDP and activation checkpointing put before the keys of the part that they wrap
WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
#: a distiller's student and teacher in one state dict
PAIR = ("student.", "teacher.")
_DEPTH = 4
_MOST_ENTRIES = 100_000
_COUNTER = ".num_batches_tracked"


@dataclass(frozen=True)
class Held:
    """Weights in a file: the keys that lead to them, and whether they are a moving average."""

    names: tuple[str, ...]
    state: State

    @property
    def averaged(self) -> bool:
        """Whether they are a moving average."""
        return any(name in EMA_KEYS for name in self.names)

    def __str__(self) -> str:
        return ".".join(self.names) or "its top"


def find_state(path: Path, content: Any, use_ema: bool, needed: Mapping[str, Tensor] | None) -> State:
    """The weights of a file, without the prefixes of wrappers.

    Args:
        path: what an error calls the file.
        content: what the file holds.
        use_ema: take the moving average.
        needed: the state dict of the network that they are for. It decides between several containers, and how much of a prefix
            is the network's own.

    Raises:
        ModelError: no weights, no moving average where one is asked for, or several that could be meant.
    """
    if not isinstance(content, Mapping):
        raise ModelError(f"{path} holds a {type(content).__name__}; expected a state dict")
    check_count(path, len(content))
    held = list(_search(content))
    if not held:
        raise ModelError(
            f"{path} holds no tensors at its top or under {', '.join((*STATE_KEYS, *EMA_KEYS))}; its keys: {some(content)}"
        )
    averaged, plain = [h for h in held if h.averaged], [h for h in held if not h.averaged]
    if use_ema and not averaged:
        names = ", ".join(str(h) for h in held)
        raise ModelError(f"{path} holds no moving average ({', '.join(EMA_KEYS)}), only {names}")
    pool = averaged if use_ema else plain or averaged
    states = [(h, bare(path, h.state, needed)) for h in pool]
    chosen, state = _choose(path, states, needed)
    passed_over = [
        key for key in content if key not in {h.names[0] for h in held if h.names} and _is_state(content[key])
    ]
    if passed_over:
        log.info("%s holds %s; taking %s, and nothing of %s", path, some(content), chosen, some(passed_over))
    if len(held) > 1:
        log.info("%s holds %s; taking %s (WEIGHTS_EMA chooses)", path, " and ".join(str(h) for h in held), chosen)
    return state


def check_count(path: Path, count: int) -> None:
    """Refuse a file of more entries than any network has tensors.

    Raises:
        ModelError: it has.
    """
    if count > _MOST_ENTRIES:
        raise ModelError(f"{path} holds {count:,} entries, and no state dict has more than {_MOST_ENTRIES:,}")


def _search(content: Mapping[Any, Any], names: tuple[str, ...] = ()) -> Iterator[Held]:
    own = tensors(content)
    inner = [value for value in content.values() if isinstance(value, Mapping)]
    # a nested mapping with tensors marks a wrapper, whose own few tensors (an accuracy) are no weights
    seen: dict[int, int] = {}
    if not any(_holds_tensors(value, seen) for value in inner):
        if any(value.dim() for value in own.values()):
            yield Held(names, own)
        return
    for key in (*STATE_KEYS, *EMA_KEYS):
        value = content.get(key)
        if isinstance(value, Mapping) and len(names) < _DEPTH:
            yield from _search(value, (*names, key))


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping) and any(tensor.dim() for tensor in tensors(value).values())


def _holds_tensors(content: Mapping[Any, Any], seen: dict[int, int], depth: int = 0) -> bool:
    """Whether there are tensors at or below ``content``. Mappings that were searched at this level or above are passed over: a
    file may hold one at very many places."""
    if seen.get(id(content), _DEPTH + 1) <= depth:
        return False
    values = list(content.values())
    if any(isinstance(value, (Tensor, InertArray)) for value in values):
        return True
    seen[id(content)] = depth
    return depth < _DEPTH and any(_holds_tensors(v, seen, depth + 1) for v in values if isinstance(v, Mapping))


def tensors(content: Mapping[Any, Any]) -> State:
    """The tensors of a mapping, numpy's arrays among them, by their names."""
    found: State = {}
    for key, value in content.items():
        made = value.tensor() if isinstance(value, InertArray) else value
        if isinstance(key, str) and isinstance(made, Tensor):
            found[key] = made
    return found


def _choose(path: Path, states: list[tuple[Held, State]], needed: Mapping[str, Tensor] | None) -> tuple[Held, State]:
    kept: list[tuple[Held, State]] = []
    for held, state in states:
        if not any(_equal(state, other) for _, other in kept):
            kept.append((held, state))
    if len(kept) == 1:
        return kept[0]
    fitting = [pair for pair in kept if needed is None or _fits(pair[1], needed)]
    if len(fitting) == 1:
        return fitting[0]
    how = (
        "of which none fits"
        if not fitting
        else "and nothing says which is meant"
        if needed is None
        else "which all fit"
    )
    meant, key = fitting or kept, "".join(f"[{name!r}]" for name in (fitting or kept)[0][0].names)
    names = " and ".join(str(held) for held, _ in meant)
    network = "" if needed is None else " this network"
    raise ModelError(
        f"{path} holds different weights under {names}, {how}{network}; re-save those that are meant: "
        f"torch.save(torch.load(file){key}, other_file)"
    )


def _equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(
        value.shape == other[key].shape and value.dtype == other[key].dtype and torch.equal(value, other[key])
        for key, value in one.items()
    )


def _fits(state: State, needed: Mapping[str, Tensor]) -> bool:
    """Whether the tensors are the network's, but for its classifier: that may be of another width or missing."""
    own, given = (
        {key: value.shape for key, value in of.items() if not key.endswith(_COUNTER)} for of in (needed, state)
    )
    wrong = [key for key in own.keys() | given.keys() if own.get(key) != given.get(key)]
    return len({key.rpartition(".")[0] for key in wrong}) <= 1


def bare(path: Path, state: State, needed: Mapping[str, Tensor] | None = None) -> State:
    """``state`` without what wrappers put before its keys, as far as ``needed`` (a network's state dict) lacks it, too; of a
    distiller that was saved with its student and its teacher, the student.

    Raises:
        ModelError: two keys would become one.
    """
    known = set(needed or ())
    levels = [_unwrapped(path, state, known)]
    paired = False
    while True:
        last = levels[-1]
        prefix = next((p for p in PREFIXES if last and all(key.startswith(p) for key in last)), None)
        if prefix is None and all(any(key.startswith(p) for key in last) for p in PAIR):
            # mdistiller's distillers save teacher, student and their own modules as one
            prefix, paired = PAIR[0], True
        if prefix is None:
            break
        levels.append({key[len(prefix) :]: value for key, value in last.items() if key.startswith(prefix)})
    shared = [len(known & level.keys()) for level in levels]
    best = shared.index(max(shared)) if any(shared) else len(levels) - 1
    if paired and best:
        log.info("%s holds a student and its teacher; taking the student", path)
    return levels[best]


def _unwrapped(path: Path, state: State, known: set[str]) -> State:
    found: State = {}
    for key, value in state.items():
        short = key
        for wrapper in WRAPPERS:
            short = short if key in known else short.replace(wrapper, "")
        if short in found:
            raise ModelError(
                f"{path} holds {shown(short)} twice, wrapped and not ({shown(key)}); re-save model.state_dict()"
            )
        found[short] = value
    return found


def check_tensors(path: Path, state: Mapping[str, Tensor], needed: Mapping[str, Tensor] | None = None) -> None:
    """Refuse tensors that a copy would turn into something else without a word.

    Raises:
        ModelError: a complex (for a real), 8-bit floating-point, sparse, quantised or nested tensor, or one without values.
    """
    for key, value in state.items():
        kind = _odd(value)
        twin = (needed or {}).get(key)
        if kind and not (kind == "complex" and twin is not None and twin.is_complex()):
            raise ModelError(
                f"{path}: tensor {shown(key)} is {kind} ({str(value.dtype).removeprefix('torch.')}); expected plain floating-point "
                "weights: convert it (dequantise, to_dense, to float32) and save the state dict again"
            )


def _odd(value: Tensor) -> str:
    if value.is_quantized:
        return "quantised"
    if value.is_nested:
        return "nested"
    if value.layout != torch.strided:
        return "sparse"
    if value.is_meta:
        return "without values"
    if value.is_complex():
        return "complex"
    return "of 8-bit floating point" if value.is_floating_point() and value.element_size() < 2 else ""
