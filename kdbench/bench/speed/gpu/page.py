"""The results as one page of Markdown: what was found, and what was not measured and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tabulate import tabulate

from kdbench.bench.speed.gpu.parts import PARTS

Found = Mapping[str, Any]


def render(results: Found) -> str:
    """The page of what ``gpu.json`` holds."""
    environment = results["parts"].get("environment", {})
    card = environment.get("gpu") or ("a CPU" if results["device"] == "cpu" else "an unknown GPU")
    head = f"kdbench {results['kdbench']}, {results['started']}, limit {results['minutes']:g} minutes"
    texts = [f"# kdbench on {card}", f"{head}, {results['seconds']:g} s used." if "seconds" in results else f"{head}."]
    if results["device"] == "cpu":
        texts.append("This is a rehearsal on a CPU: its figures say nothing of a GPU.")
    texts.append("## Targets\n\n" + _targets(results.get("targets", [])))
    for part in PARTS:
        found = results["parts"].get(part.name, {"error": "not run"})
        texts.append(f"## {part.title}")
        if found.get("error"):
            texts.append(f"**Not measured, or not to the end: {found['error']}.**")
        body = _BODIES[part.name](found) if set(found) - {"error"} else ""
        texts += [body] if body else []
    return "\n\n".join(texts) + "\n"


def _table(rows: list[list[Any]], head: list[str]) -> str:
    return tabulate(rows, head, tablefmt="pipe", disable_numparse=True)


def _targets(rows: list[Found]) -> str:
    shown = [
        [row["target"], row["asked"], "" if row["value"] is None else f"{row['value']:.3g}", _verdict(row)]
        for row in rows
    ]
    return _table(shown, ["target", "asked", "found", "verdict"])


def _verdict(row: Found) -> str:
    return f"{row['verdict']}: {row['why']}" if row["why"] else str(row["verdict"])


def _environment(found: Found) -> str:
    values = [
        [key, f"{value:.1f}" if isinstance(value, float) else value] for key, value in found.items() if key != "error"
    ]
    return _table(values, ["", ""])


def _yes(value: Any) -> str:
    return "" if value is None else "yes" if value else "**no**"


def _trouble(row: Found) -> str:
    if "refused" in row:
        return f"refused: {row['refused']}"
    return f"**failed**: {row['error']}" if "error" in row else row.get("missing", "")


def _methods(found: Found) -> str:
    texts = []
    if found.get("stand_in"):
        texts.append("Without a GPU a step is run again in the place of a replay, and the CPU is compared with itself.")
    rows = []
    for row in found.get("rows", []):
        replayed = f"{row['replayed']} of {row['steps']}" if "steps" in row else ""
        apart = f"{row['deviation']:.1e} ({row['tolerance']:g})" if "deviation" in row else ""
        trouble = _trouble(row) or _finding(row)
        rows.append([row["method"], replayed, _yes(row.get("equal")), apart, _yes(row.get("agrees")), trouble])
    head = ["method", "steps replayed", "equal to single steps", "GPU from CPU (tolerance)", "agrees", ""]
    texts.append(_table(rows, head))
    reasons = [f"{name} {value:g}, {why}" for name, (value, why) in found.get("tolerances", {}).items()]
    if reasons:
        texts.append(
            "Distance of gradients, buffers and loss terms after one float32 step, relative to their size. Tolerances: "
            + "; ".join(reasons)
            + "."
        )
    return "\n\n".join(texts)


def _finding(row: Found) -> str:
    if row["differ"]:
        return "differ: " + ", ".join(row["differ"][:3])
    return "**declared capturable, none was replayed**" if row["capturable"] and not row["replayed"] else ""


def _determinism(found: Found) -> str:
    rows = [
        [row["method"], _yes(row.get("twice")), _yes(row.get("resumed")), _trouble(row)]
        for row in found.get("rows", [])
    ]
    cost = "What deterministic mode costs stands among the targets, from the tables of speed."
    return _table(rows, ["method", "equal twice", "equal when resumed", ""]) + f"\n\n{cost}"


def _ddp(found: Found) -> str:
    rows = [[row["method"], _yes(row["twice"]), _yes(row["plain"])] for row in found.get("rows", [])]
    number = found.get("devices", 0)
    there = (
        f"{number} GPU{'s are' if number != 1 else ' is'} visible; a run over several of them is not part of this tool."
    )
    words = f"Backend {found.get('backend')}, one process. {there}"
    return words + "\n\n" + _table(rows, ["method", "equal twice", "equal to steps without a group"])


def _speed(found: Found) -> str:
    if "pair" not in found:
        return ""
    rows = [
        [
            row["name"],
            f"{row['rate']:,.0f}",
            f"{row['low']:,.0f} - {row['high']:,.0f}",
            str(row["readings"]),
            "" if row["ratio"] is None else f"{row['ratio']:.2f}",
        ]
        for row in found["rows"]
    ]
    about = f"{found['pair']}, {found['size']} pixels, batch {found['batch']}; images of all students of a cohort are counted."
    texts = [about, _table(rows, ["", "images/s (median)", "readings", "number", f"times {found['base']}"])]
    missing = [f"- {name}: {why}" for name, why in found["missing"].items()]
    return "\n\n".join(texts + (["Not measured:\n\n" + "\n".join(missing)] if missing else []))


def _profile(found: Found) -> str:
    def number(row: Found, key: str, form: str) -> str:
        return format(row[key], form) if key in row else ""

    columns = (
        ("step ms", "step_ms", ".3f"),
        ("kernels ms", "busy_ms", ".3f"),
        ("busy", "busy", ".0%"),
        ("launches", "launches", ".1f"),
        ("of graphs", "graphs", ".1f"),
        ("kernels", "kernels", ".1f"),
        ("copies", "copies", ".1f"),
        ("waits", "waits", ".2f"),
        ("waits warned of", "warned", ".2f"),
        ("data wait", "data_share", ".1%"),
    )
    rows = [
        [row["name"], *(number(row, key, form) for _, key, form in columns), _trouble(row)]
        for row in found.get("rows", [])
    ]
    words = "KD in bf16, channels_last. Numbers are those of a step; the last column is the share of an epoch."
    return words + "\n\n" + _table(rows, ["", *(title for title, _, _ in columns), ""])


_BODIES = {
    "environment": _environment,
    "methods": _methods,
    "determinism": _determinism,
    "ddp": _ddp,
    "small": _speed,
    "large": _speed,
    "profile": _profile,
    "compile": _speed,
}
