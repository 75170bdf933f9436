"""What no other one beats in both cost and accuracy."""

from __future__ import annotations

from collections.abc import Mapping


def frontier(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Names, cheapest first, of the (cost, accuracy) points of which no other is both as cheap and as accurate."""
    chosen: list[str] = []
    best = float("-inf")
    for name in sorted(points, key=lambda n: (points[n][0], -points[n][1])):
        if points[name][1] > best:
            chosen.append(name)
            best = points[name][1]
    return chosen
