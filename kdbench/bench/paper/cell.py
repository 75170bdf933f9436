"""A cell of a published table, and the texts that it consists of."""

from __future__ import annotations

from dataclasses import dataclass

from kdbench.bench.comparison.cell import Cell
from kdbench.bench.paper.own_runs import MISSING
from kdbench.bench.paper.published import Key

SOURCES = ("reported", "ours", "delta", "both")
NOT_PRINTED = "-"  # what stands where the paper gives no figure


@dataclass(frozen=True)
class PaperCell:
    """One cell. ``reported``, ``ours`` and ``gain`` figures are None where there are none.

    Attributes:
        key: what it is the figure of; None for text and for gains.
        gain_of: what it is the gain of (over method ``over``), for gains and for figures with a gain beside them.
        text: fixed text, of headings.
        marks: numbers of its footnotes, from 1.
        other_recipe: its runs do not keep the declared recipe.
        absence: what stands where there is no own figure.
    """

    key: Key | None = None
    gain_of: Key | None = None
    over: str = ""
    text: str = ""
    reported: float | None = None
    ours: Cell | None = None
    reported_gain: float | None = None
    ours_gain: float | None = None
    marks: tuple[int, ...] = ()
    other_recipe: bool = False
    absence: str = MISSING

    @property
    def delta(self) -> float | None:
        """Ours less reported."""
        if self.key is None or self.ours is None or self.reported is None:
            return None
        return self.ours.mean - self.reported

    def parts(self, source: str) -> tuple[str, ...]:
        """The texts that the cell consists of: one, or reported, ours and delta."""
        if self.key is None and self.gain_of is None:
            return (self.text,)
        if self.key is None:
            both = (_signed(self.reported_gain, NOT_PRINTED), _signed(self.ours_gain, self.absence))
            known = self.reported_gain is not None and self.ours_gain is not None
            shift = self.ours_gain - self.reported_gain if known else None  # type: ignore[operator]
            texts: tuple[str, ...] = (*both, _signed(shift, ""))
        else:
            reported = NOT_PRINTED if self.reported is None else f"{self.reported:.2f}"
            texts = (reported, self.absence if self.ours is None else self.ours.text(), _signed(self.delta, ""))
            if self.gain_of is not None:
                gains = (self.reported_gain, self.ours_gain, None)
                texts = tuple(t if g is None else f"{t} ({g:+.2f})" for t, g in zip(texts, gains))
        if source == "both":
            return texts
        picked = texts[SOURCES.index(source)]
        return (picked or self.absence,)


def _signed(value: float | None, nothing: str) -> str:
    return nothing if value is None else f"{value:+.2f}"
