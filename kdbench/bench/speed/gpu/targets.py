"""What was asked for of a card: reached, missed, or not measured; nothing is guessed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

REACHED, MISSED, UNKNOWN = "reached", "missed", "not measured"
#: in the name of the adapter's file whose trainer the small pair's targets mean
PEER = "mdistiller"
_HALF = "bf16 channels_last"
Results = Mapping[str, Any]
#: gives a value, or why there is none
Find = Callable[[Results], float | str]


def judge(results: Results) -> list[dict[str, Any]]:
    """Rows ``target``, ``asked`` (in words), ``value`` (None where there is none), ``verdict``, ``why`` (there is no value)."""
    rows = []
    for target, bound, least, find in _TARGETS:
        found: float | str = "it takes a GPU"
        if str(results.get("device", "")).startswith("cuda"):
            found = find(results)
        known = not isinstance(found, str)
        good = known and (found >= bound if least else found <= bound)  # type: ignore[operator]
        rows.append(
            {
                "target": target,
                "asked": f"{'at least' if least else 'at most'} {bound:g}",
                "value": found if known else None,
                "verdict": (REACHED if good else MISSED) if known else UNKNOWN,
                "why": "" if known else found,
            }
        )
    return rows


def _value(part: str, name: str, key: str) -> Find:
    """A candidate's ``rate``, or its ``ratio`` to the plain loop that was read by turns with it."""

    def find(results: Results) -> float | str:
        found: Mapping[str, Any] = results["parts"].get(part, {})
        row = next((row for row in found.get("rows", []) if row["name"] == name), None)
        if row is None:
            return f"{name}: {found.get('missing', {}).get(name) or found.get('error') or 'no reading'}"
        return f"{found['base']}: no reading" if row[key] is None else float(row[key])

    return find


def _peer(results: Results) -> float | str:
    rows = results["parts"].get("small", {}).get("rows", [])
    row = next((row for row in rows if row["name"].startswith("peer ") and PEER in row["name"].lower()), None)
    return float(row["rate"]) if row is not None else f"no adapter of {PEER} was read (--peer)"


def _ratio(above: Find, below: Find) -> Find:
    def find(results: Results) -> float | str:
        one, other = above(results), below(results)
        if isinstance(one, str) or isinstance(other, str):
            return one if isinstance(one, str) else str(other)
        return one / other

    return find


def _profiled(shape: str, value: Callable[[Mapping[str, Any]], float]) -> Find:
    def find(results: Results) -> float | str:
        found: Mapping[str, Any] = results["parts"].get("profile", {})
        row: Mapping[str, Any] = next((row for row in found.get("rows", []) if row["name"] == shape), {})
        try:
            return value(row)
        except KeyError:
            return str(row.get("error") or row.get("missing") or found.get("error") or "no reading")

    return find


def _unequal(results: Results) -> float | str:
    """Runs that did not end in the bytes of the first one."""
    found: Mapping[str, Any] = results["parts"].get("determinism", {})
    rows = [row for row in found.get("rows", []) if "refused" not in row]
    if not rows:
        return str(found.get("error") or "no run")
    failed = [row["method"] for row in rows if "error" in row]
    if found.get("error") or failed:
        return str(found.get("error") or f"failed: {', '.join(failed)}")
    return float(sum((not row["twice"]) + (not row["resumed"]) for row in rows))


def _small(name: str) -> Find:
    return _value("small", name, "rate")


def _large(name: str, key: str = "rate") -> Find:
    return _value("large", name, key)


#: target, bound, whether it is the least or the most, where the value comes from
_TARGETS: tuple[tuple[str, float, bool, Find], ...] = (
    (f"32 pixels: KD in bf16, times {PEER}'s trainer", 5.0, True, _ratio(_small(f"KD, {_HALF}, captured"), _peer)),
    (f"32 pixels: KD with TF32, times {PEER}'s trainer", 3.0, True, _ratio(_small("KD, TF32, captured"), _peer)),
    (
        f"32 pixels: cohort of 7, students' images/s together, times {PEER}'s trainer (whose rate with KD stands for all seven)",
        *(8.0, True, _ratio(_small(f"cohort of 7, {_HALF}"), _peer)),
    ),
    ("224 pixels: KD, times the plain loop of equal precision", 1.3, True, _large("KD", "ratio")),
    (
        "224 pixels: cohort of 7, students' images/s together, times the plain loop",
        *(2.5, True, _large("cohort of 7", "ratio")),
    ),
    (
        "224 pixels: the host's wait for data, share of an epoch",
        0.03,
        False,
        _profiled("large, captured", lambda row: row["data_share"]),
    ),
    (
        "224 pixels: a step's time, times that of its kernels alone",
        *(1.05, False, _profiled("large, captured", lambda row: row["step_ms"] / row["busy_ms"])),
    ),
    (
        "32 pixels: a step in deterministic mode, times one without",
        *(1.15, False, _ratio(_small(f"KD, {_HALF}, not deterministic"), _small(f"KD, {_HALF}, captured"))),
    ),
    (
        "224 pixels: a step in deterministic mode, times one without",
        *(1.15, False, _ratio(_large("KD, not deterministic"), _large("KD"))),
    ),
    ("runs that are not equal twice, or not after an interruption", 0.0, False, _unequal),
)
