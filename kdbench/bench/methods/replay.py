"""What a captured step needs of a method: state that stays where it is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kdbench.bench.methods.conformance import BATCH, NETWORKS, create_pair, make_batch, step
from kdbench.errors import IncompatibleError


def check_replay(
    method: str,
    teacher: str,
    student: str,
    *,
    models: dict[str, tuple[str, dict[str, Any]]] | None = None,
    batch: int = BATCH,
) -> str:
    """Training steps of ``method`` on the CPU, with a smaller batch among them, as a last one is.

    A CUDA graph knows its tensors by their addresses. Checks: after the first step, which is never captured, every parameter and
    buffer of the method and of the student stays in its memory, and the method's modules hold no other tensors.

    Args:
        method: registered name.
        teacher, student: keys of ``models``.
        models: name and options of a network by key; default: the small ones of
            :data:`~kdbench.bench.methods.conformance.NETWORKS`.
        batch: samples; at least 4.

    Returns:
        ``"runs"``, or the reason for which the method refuses the pair.

    Raises:
        AssertionError: a check failed.
    """
    zoo = models or NETWORKS
    try:
        s_model, t_model, distiller = create_pair(method, zoo[teacher], zoo[student])
    except IncompatibleError as error:
        return str(error)
    module = nn.ModuleDict({"student": s_model, "method": distiller})
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=1e-3, momentum=0.9)
    places: dict[str, int] = {}
    first = 0
    for size in (batch, batch, batch - 2, batch):
        terms = step(distiller, s_model, t_model, make_batch(s_model, size, first))
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        first += size
        now = {name: value.data_ptr() for name, value in [*module.named_parameters(), *module.named_buffers()]}
        places = places or now
        moved = sorted(name for name in places.keys() | now.keys() if places.get(name) != now.get(name))
        assert not moved, f"{method}: {', '.join(moved)} moved to other memory: write in place"
    for name, part in distiller.named_modules():
        loose = sorted(key for key, value in vars(part).items() if isinstance(value, Tensor))
        assert not loose, (
            f"{method}: {name or 'it'} holds {', '.join(loose)}, which is neither a parameter nor a buffer"
        )
    return "runs"
