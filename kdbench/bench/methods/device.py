"""What a method must do on a GPU, checked without one: on fake tensors, which have a device, a shape and a type, and no values.

``check_device("KD", "vit", "cnn")`` puts both small networks and the method on a fake GPU and takes a few steps there. Backward
does not run on fake tensors: :func:`~kdbench.bench.methods.conformance.check_pair` covers it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kdbench.bench.methods.conformance import BATCH, CLASSES, NETWORKS, create_pair, phase_step, step
from kdbench.data.augmentation.looks import LOOKS
from kdbench.distillers.base import Batch
from kdbench.errors import IncompatibleError
from kdbench.models.feature_model.model import FeatureModel
from kdbench.random import CounterRNG

_DEVICE = "cuda"
#: what of a batch lies with the host, and may change from step to step or from epoch to epoch
_HOST = frozenset({"epoch", "progress", "host_draw"})
#: a replay of a captured step would not see these change
_EVERY_STEP = frozenset({"progress", "host_draw"})
#: more samples than asked, epoch, soft labels, bfloat16
_STEPS = ((0, 1, False, False), (0, 25, True, True), (-2, 25, False, False))


def check_device(
    method: str,
    teacher: str,
    student: str,
    *,
    models: dict[str, tuple[str, dict[str, Any]]] | None = None,
    batch: int = BATCH,
) -> str:
    """Steps of ``method`` on a fake GPU: the first one, one of a later epoch with soft labels and in bfloat16, a smaller batch.

    Checks: no value of the device is read by the host (``.item()``, ``if tensor:``, boolean masks as indices, and whatever else
    has a shape that depends on values), nothing is copied between host and device, devices are not mixed, every term is without
    dimensions and on the device; and a method that reads ``batch.progress`` or draws by the host does not declare itself
    ``capturable``.

    Args:
        method: registered name.
        teacher, student: keys of ``models``.
        models: name and options of a network by key; default: the small ones of :data:`NETWORKS`.
        batch: samples; at least 4.

    Returns:
        ``"runs"``, or the reason for which the method refuses the pair.

    Raises:
        AssertionError: a check failed.
    """
    try:
        host_reads(method, teacher, student, models=models, batch=batch)
    except IncompatibleError as error:
        return str(error)
    return "runs"


def host_reads(
    method: str,
    teacher: str,
    student: str,
    *,
    models: dict[str, tuple[str, dict[str, Any]]] | None = None,
    batch: int = BATCH,
) -> frozenset[str]:
    """The same check; which of ``epoch``, ``progress`` and ``host_draw`` the method reads from its batches. A captured step of a
    method that reads the epoch is captured anew in every epoch.

    Raises:
        AssertionError: a check failed.
        IncompatibleError: the method refuses the pair.
    """
    zoo = models or NETWORKS
    s_model, t_model, distiller = create_pair(method, zoo[teacher], zoo[student])
    read: set[str] = set()
    with FakeTensorMode(allow_non_fake_inputs=False):
        for module in (s_model, t_model, distiller):
            if module is not None:
                _to_device(module)
        for more, epoch, soft, half in _STEPS:
            data = _batch(s_model, batch + more, epoch, soft, read)
            with _autocast(half):
                terms = _guarded(method, partial(step, distiller, s_model, t_model, data))
                for phase in distiller.phases():
                    own = _guarded(method, partial(phase_step, phase, s_model, t_model, data))
                    terms |= {f"{phase.name}/{name}": value for name, value in own.items()}
            for name, value in terms.items():
                found = f"{method}: term {name} has shape {tuple(value.shape)} on {value.device}"
                assert value.dim() == 0, found
                assert value.device.type == _DEVICE, found
    stale = sorted(read & _EVERY_STEP)
    assert not (stale and distiller.capturable), (
        f"{method} reads {', '.join(stale)} of its batches, which a captured step would not see change: declare capturable = False"
    )
    return frozenset(read)


class _HostTensor(Tensor):
    """A tensor of the host with its values, among fake ones; mixed with one of the device it is an error."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            mixed = any(isinstance(v, Tensor) and v.device.type == _DEVICE for v in tree_leaves((args, kwargs)))
        if mixed:
            raise RuntimeError(f"{func.__name__} mixes tensors of the host and of the device")
        with unset_fake_temporarily():
            return super().__torch_function__(func, types, args, kwargs or {})


class _HostRNG(CounterRNG):
    def bits(self, n: int) -> Tensor:
        with unset_fake_temporarily():
            return super().bits(n)


class _NotedBatch(Batch):
    """A batch that notes what the method reads of the host's values."""

    read: set[str]

    def __getattribute__(self, name: str) -> Any:
        if name in _HOST:
            object.__getattribute__(self, "read").add(name)
        return object.__getattribute__(self, name)

    def generator(self, name: str, *, host: bool = False) -> CounterRNG:
        rng = super().generator(name, host=host)
        return _HostRNG(rng.seed, rng.stream, rng.epoch, rng.index) if host else rng


class _OneDevice(TorchDispatchMode):
    """Refuses copies between host and device, which wait and cannot be captured, and operations that make them unseen (an index
    that lies with the host). Numbers of the host, tensors without dimensions among them, are arguments like any other."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        copies = func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
        tensors = [value for value in tree_leaves((args, kwargs, result)) if isinstance(value, Tensor)]
        places = sorted({value.device.type for value in tensors if copies or value.dim() > 0})
        if len(places) > 1:
            shapes = ", ".join(str(tuple(value.shape)) for value in tensors)
            raise RuntimeError(f"{func} has tensors on {' and '.join(places)}, of shapes {shapes}")
        return result


def _to_device(module: nn.Module) -> None:
    """Give the module fake parameters and buffers, without values, on the device; it is of no use afterwards."""
    for part in module.modules():
        for name, old in part._parameters.items():
            if old is not None:
                part._parameters[name] = nn.Parameter(_fake(old), old.requires_grad)
        for name, held in part._buffers.items():
            if held is not None:
                part._buffers[name] = _fake(held)


def _fake(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=_DEVICE)


def _batch(student: FeatureModel, size: int, epoch: int, soft: bool, read: set[str]) -> Batch:
    with unset_fake_temporarily():
        host_draw = torch.arange(size).as_subclass(_HostTensor)
    images = torch.rand(size, 3, *student.input_size, device=_DEVICE)
    index = torch.arange(size, device=_DEVICE)
    target = torch.rand(size, CLASSES, device=_DEVICE).softmax(1) if soft else index % CLASSES
    clock = torch.ones((), dtype=torch.int64, device=_DEVICE)
    batch = _NotedBatch.__new__(_NotedBatch)
    batch.read = read
    looks = {name: torch.rand_like(images) for name in LOOKS}
    known = {"host_draw": host_draw, "clock": clock, "looks": looks}
    batch.__init__(images, target, index, index, epoch=epoch, progress=0.5, seed=1, **known)  # type: ignore[misc]
    return batch


@contextmanager
def _autocast(enabled: bool) -> Iterator[None]:
    """bfloat16 autocast of the device; ``torch.autocast`` would refuse it where there is none."""
    before = torch.is_autocast_enabled(_DEVICE), torch.get_autocast_dtype(_DEVICE)
    try:
        torch.set_autocast_enabled(_DEVICE, enabled)
        torch.set_autocast_dtype(_DEVICE, torch.bfloat16)
        yield
    finally:
        torch.set_autocast_enabled(_DEVICE, before[0])
        torch.set_autocast_dtype(_DEVICE, before[1])
        torch.clear_autocast_cache()


def _guarded(method: str, work: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    with _OneDevice():
        try:
            return work()
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            raise AssertionError(f"{method} on a GPU: {type(error).__name__}: {lines[0]}") from error
