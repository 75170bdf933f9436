"""Randomness as a function of ``(seed, stream, counters)``, not as a state.

Every draw that a result depends on (order of samples, augmentation, a method's own noise) is one value of the
counter-based generator Philox4x32-10 (Salmon et al., *Parallel random numbers: as easy as 1, 2, 3*, SC 2011), evaluated
for a whole batch at once. The same sample therefore looks the same whoever draws it: any worker, any rank, before or after
a resume. Streams are named, so that adding one never shifts another.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from any tuple of values; equal tuples give equal seeds on every platform."""
    text = "\x1f".join(repr(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") & (2**63 - 1)


@contextmanager
def forked_seed(*parts: object) -> Iterator[None]:
    """Run a block under a global CPU generator seeded from ``parts``, and put the old state back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(*parts))
        yield


def philox(key: int, counters: Tensor) -> Tensor:
    """Philox4x32-10.

    Args:
        key: 64-bit key.
        counters: (..., 4) int64, each in [0, 2**32).

    Returns:
        (..., 4) int64, each uniform in [0, 2**32).
    """
    c0, c1, c2, c3 = counters.unbind(-1)
    k0, k1 = key & _MASK, (key >> 32) & _MASK
    for _ in range(_ROUNDS):
        # An int64 product wraps modulo 2**64; the mask after the arithmetic shift restores the unsigned high word.
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((p1 >> 32) & _MASK) ^ c1 ^ k0,
            p1 & _MASK,
            ((p0 >> 32) & _MASK) ^ c3 ^ k1,
            p0 & _MASK,
        )
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return torch.stack((c0, c1, c2, c3), dim=-1)


class CounterRNG:
    """Draws for a batch of samples: row ``b`` depends on (seed, stream, epoch, index[b]) and on nothing else.

    Args:
        seed: the run's (or the augmentation's) seed.
        stream: name of the stream, for instance ``"augment/crop"``.
        epoch: counted from 1; a number, or a 0-d int64 tensor on the device of ``index``.
        index: (B,) int64 sample positions; the draws are made on its device.
    """

    def __init__(self, seed: int, stream: str, epoch: int | Tensor, index: Tensor) -> None:
        self.seed, self.stream, self.epoch, self.index = seed, stream, epoch, index
        self._key = derive_seed("philox", seed, stream)

    def bits(self, n: int) -> Tensor:
        """(B, n) int64, uniform in [0, 2**32)."""
        index = self.index.long()
        blocks = max(1, (n + 3) // 4)
        block = torch.arange(blocks, device=index.device)
        epoch = self.epoch if isinstance(self.epoch, Tensor) else torch.full_like(block, self.epoch)
        counters = torch.stack(
            torch.broadcast_tensors(block, epoch, (index & _MASK)[:, None], (index >> 32)[:, None]), dim=-1
        )
        return philox(self._key, counters).reshape(len(index), blocks * 4)[:, :n]

    def uniform(self, n: int) -> Tensor:
        """(B, n) float32, uniform in [0, 1)."""
        return (self.bits(n) >> 8).to(torch.float32) * 2.0**-24

    def normal(self, n: int) -> Tensor:
        """(B, n) float32, standard normal (Box and Muller)."""
        pairs = (n + 1) // 2
        u = self.uniform(2 * pairs).to(torch.float64)
        radius = torch.sqrt(-2.0 * torch.log1p(-u[:, :pairs]))
        angle = 2.0 * math.pi * u[:, pairs:]
        return torch.cat((radius * angle.cos(), radius * angle.sin()), dim=1)[:, :n].to(torch.float32)

    def integers(self, high: int, n: int) -> Tensor:
        """(B, n) int64, uniform in [0, high); the bias is below high / 2**32."""
        if not 0 < high < 2**31:
            raise ValueError(f"high must lie in [1, 2**31), got {high}")
        return (self.bits(n) * high) >> 32


def permutation(seed: int, stream: str, epoch: int, n: int, device: torch.device | str = "cpu") -> Tensor:
    """(n,) int64: a uniform permutation of 0 .. n-1 that depends on its arguments alone, and not on the device that makes it."""
    bits = CounterRNG(seed, stream, epoch, torch.arange(n, device=device)).bits(2)
    keys = (bits[:, 0] << 31) | (bits[:, 1] >> 1)
    return torch.sort(keys, stable=True).indices
