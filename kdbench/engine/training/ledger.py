"""The sums of an epoch's loss terms, and its first step with a term that is not finite; both are kept on the device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from kdbench.engine.runtime import Runtime
from kdbench.errors import NonFiniteLossError

#: steps between looks at a GPU's verdict: each look waits for the device
_INTERVAL = 50


class Ledger:
    """Adds up loss terms and judges them without reading one; the host looks at every step on a CPU, and now and then on a GPU.

    Its tensors are made at a step's first entry and changed in place, so that a captured step writes where it wrote before.

    Args:
        device: where the losses are.
        skipping: steps that are not finite are left out of the sums, since they are skipped.
    """

    def __init__(self, device: torch.device, *, skipping: bool = False) -> None:
        self.interval = 1 if device.type == "cpu" else _INTERVAL
        self.device, self.skipping = device, skipping
        #: steps of the run that were skipped
        self.skipped = torch.zeros((), dtype=torch.int64, device=device)
        #: whether the last step had a term that is not finite, and the images of such steps of the epoch; known where they are
        #: skipped
        self.wrong = torch.zeros((), dtype=torch.bool, device=device)
        self.left_out = torch.zeros((), dtype=torch.float64, device=device)
        self._pages: dict[tuple[str, ...], _Page] = {}  # by the names of the terms, which may differ from step to step
        self._last: _Page | None = None

    def start(self) -> None:
        """Begin an epoch."""
        self.left_out.zero_()
        for page in self._pages.values():
            page.clear()

    def enter(self, step: int | Tensor, terms: Mapping[str, Tensor], loss: Tensor, images: int) -> None:
        """Take in one step's terms (0-d) and their sum; nothing is read by the host.

        Args:
            step: its number, from 0; a 0-d int64 tensor on the device in a captured step.
            terms: by name.
            loss: their sum.
            images: samples of the step, the weight of its terms in their means.
        """
        names = tuple(terms)
        if names not in self._pages:
            self._pages[names] = _Page(names, self.device)
        self._last = self._pages[names]
        values = torch.stack([value.detach().double() for value in (*terms.values(), loss)])
        bad = self._last.note(step, values)
        if self.skipping:
            self.wrong.copy_(bad)
            self.left_out.add_(bad * images)
            values = torch.where(bad, 0.0, values)
        self._last.sums.add_(values * images)

    @property
    def names(self) -> frozenset[tuple[str, ...]]:
        """The names of terms that have been entered together."""
        return frozenset(self._pages)

    def forget(self, names: Iterable[tuple[str, ...]]) -> None:
        """Drop what was entered under these names."""
        for group in names:
            del self._pages[group]

    def due(self, step: int) -> bool:
        """Whether to look after this step."""
        return (step + 1) % self.interval == 0

    def found(self) -> tuple[int, list[str]] | None:
        """The epoch's first step (from 0) with a value that is not finite, and the names of its terms; None without one. Waits for
        the device."""
        bad = [(first, page) for page in self._pages.values() if (first := int(page.first)) >= 0]
        if not bad:
            return None
        first, page = min(bad, key=lambda entry: entry[0])
        terms = [name for name, wrong in zip((*page.names, "their sum"), page.bad.tolist()) if wrong]
        return first, terms[:-1] or terms

    def sums(self) -> dict[str, Tensor]:
        """Of each term the sum over the epoch's images, 0-d float64 on the device."""
        found: dict[str, Tensor] = {}
        for _, page in sorted(self._pages.items()):  # a resumed run may meet them in another order
            for name, value in zip(page.names, page.sums):
                found[name] = found[name] + value if name in found else value
        return found

    def means(self, images: int, runtime: Runtime, name: str) -> dict[str, float]:
        """Mean of each term over the epoch's images, of all processes.

        Args:
            images: of the epoch, in this process.
            runtime: the processes.
            name: of the run.

        Raises:
            NonFiniteLossError: every step was skipped.
        """
        sums = self.sums()
        names = sorted(sums)
        count = torch.tensor(float(images), dtype=torch.float64).to(self.device) - self.left_out
        stacked: Tensor = runtime.sum(torch.stack([sums[key] for key in names] + [count])).cpu()
        if not stacked[-1]:
            raise NonFiniteLossError(f"every step of an epoch of {name} was not finite and was skipped")
        return {key: float(value / stacked[-1]) for key, value in zip(names, stacked)}

    def last(self) -> dict[str, Tensor]:
        """The terms of the last step, 0-d float64 on the device."""
        return {} if self._last is None else dict(zip(self._last.names, self._last.values))

    def state(self) -> dict[str, Any]:
        """What has been entered in this epoch, on the host, for :meth:`put_back`; waits for the device."""
        pages = [{"names": list(names), "sums": page.sums.cpu()} for names, page in self._pages.items()]
        return {"pages": pages, "left_out": self.left_out.cpu()}

    def put_back(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state`, of which every step was finite or left out.

        Raises:
            RuntimeError, KeyError, TypeError: it is none.
        """
        self.left_out.copy_(state["left_out"])
        for stored in state["pages"]:
            names = tuple(stored["names"])
            page = self._pages.setdefault(names, _Page(names, self.device))
            page.sums.copy_(stored["sums"])


class _Page:
    """What is kept of steps with terms of these names."""

    def __init__(self, names: tuple[str, ...], device: torch.device) -> None:
        self.names = names
        self.values = torch.zeros(len(names) + 1, dtype=torch.float64, device=device)
        self.sums = torch.zeros(len(names) + 1, dtype=torch.float64, device=device)
        self.bad = torch.zeros(len(names) + 1, dtype=torch.bool, device=device)
        self.first = torch.full((), -1, dtype=torch.int64, device=device)

    def clear(self) -> None:
        self.sums.zero_()
        self.bad.zero_()
        self.first.fill_(-1)

    def note(self, step: int | Tensor, values: Tensor) -> Tensor:
        """Take in a step's values, but for the sums; whether one of them is not finite, 0-d."""
        bad = ~torch.isfinite(values)
        any_bad = bad.any()
        now = any_bad & (self.first < 0)
        self.first.copy_(torch.where(now, step, self.first))
        self.bad.logical_or_(bad & now)
        self.values.copy_(values)
        return any_bad
