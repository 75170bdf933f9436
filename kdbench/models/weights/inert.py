"""What a pickle may name besides tensors: numpy's numbers and arrays, and bags of options, rebuilt as data alone.

The classes here stand under numpy's names while a file is read, so that no function of numpy is called with what a file says.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

#: kinds of numpy's types that are plain data: boolean, whole, real, complex numbers, bytes, text
_KINDS = "biufcSU"
_ORDERS = "<>=|"


class InertType:
    """``numpy.dtype``: what a file says of one, checked when a value of it is read."""

    def __init__(self, code: Any = "", align: Any = False, copy: Any = True) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in tuple(_ORDERS):
            self.order = state[1]

    def plain(self) -> np.dtype[Any] | None:
        """numpy's own type; None for one that is no plain data (objects, records)."""
        if not isinstance(self.code, str) or self.code[:1] not in tuple(_KINDS) or not self.code[1:].isdecimal():
            return None
        try:
            return np.dtype(self.code).newbyteorder(self.order)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            return None


class InertArray:
    """``numpy.ndarray``: :attr:`value` is the array, or None where a file says nothing that makes one of plain data."""

    def __init__(self, *args: Any) -> None:
        self.value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            return
        _, shape, kind, fortran, raw = state
        plain = kind.plain() if isinstance(kind, InertType) else None
        if plain is None or not isinstance(raw, bytes) or not plain.itemsize:
            return
        with contextlib.suppress(TypeError, ValueError):
            self.value = np.frombuffer(raw, plain).reshape(shape, order="F" if fortran else "C").copy()

    def tensor(self) -> torch.Tensor | None:
        """The array as a tensor; None where there is none of numbers."""
        if self.value is None or self.value.dtype.kind in "SU":
            return None
        native = self.value.astype(self.value.dtype.newbyteorder("="))
        try:
            return torch.from_numpy(np.ascontiguousarray(native).reshape(self.value.shape))
        except TypeError:
            return None


def inert_scalar(kind: Any, raw: Any = None) -> Any:
    """``numpy.*.scalar``: the Python number or text; None for one of no plain data."""
    plain = kind.plain() if isinstance(kind, InertType) else None
    if plain is None or not isinstance(raw, bytes) or len(raw) != plain.itemsize or not raw:
        return None
    return np.frombuffer(raw, plain)[0].item()


def _under(module: str, name: str, what: Any) -> Any:
    """A copy of a class, or a function that calls ``what``, which a reader finds as ``module.name``."""
    named = type(name, (what,), {}) if isinstance(what, type) else lambda *args: what(*args)
    named.__module__, named.__name__, named.__qualname__ = module, name, name
    return named


_ARRAY = _under("numpy", "ndarray", InertArray)


def _reconstruct(*args: Any) -> Any:
    return _ARRAY()


#: ``numpy.core`` is what files of numpy 1 say, ``numpy._core`` those of numpy 2
ALLOWED = [
    argparse.Namespace,  # a bag of attributes, whose loading runs no code: the options of RepDistiller and timm
    _under("numpy", "dtype", InertType),
    _ARRAY,
    *(_under(f"numpy.{core}.multiarray", "scalar", inert_scalar) for core in ("core", "_core")),
    *(_under(f"numpy.{core}.multiarray", "_reconstruct", _reconstruct) for core in ("core", "_core")),
]


@contextlib.contextmanager
def inert_globals() -> Iterator[None]:
    """Within, ``torch.load(weights_only=True)`` reads numpy's values and ``argparse.Namespace`` as inert data."""
    serialization: Any = torch.serialization
    known = serialization.get_safe_globals()
    serialization.clear_safe_globals()
    serialization.add_safe_globals(ALLOWED)  # torch 2.4 has no context manager for it
    try:
        yield
    finally:
        serialization.clear_safe_globals()
        serialization.add_safe_globals(known)
