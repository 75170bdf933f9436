"""Random accidents of one file: bits, lengths, sectors of zeros, keys and values, another file in its place."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mutations import NONSENSE, WHOLE

_SECTOR = 512  # bytes that a disk loses at once


def damage(content: bytes, chance: random.Random, others: Sequence[Path] = ()) -> tuple[str, bytes]:
    """A word for what was done, and the file's new content.

    Args:
        content: of the file.
        chance: draws.
        others: files that might stand in its place.
    """
    if others and chance.random() < 0.15:
        other = chance.choice(others)
        return f"{other.parent.name}/{other.name} in its place", other.read_bytes()
    ways = [_bits, _cut, _zeros, _garbage, _lines]
    if content[:1] in (b"{", b"["):
        ways += [_values] * 4
    return chance.choice(ways)(content, chance)


def _bits(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    changed, done = bytearray(content), []
    for _ in range(chance.choice((1, 1, 1, 2, 8)) if content else 0):
        place, bit = chance.randrange(len(content)), chance.randrange(8)
        changed[place] ^= 1 << bit
        done.append(f"bit {bit} of byte {place}")
    return ", ".join(done) or "nothing", bytes(changed)


def _cut(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    size = chance.choice((0, 1, max(0, len(content) - 1), chance.randint(0, len(content))))
    return f"cut at byte {size} of {len(content)}", content[:size]


def _zeros(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    begin = chance.randint(0, len(content)) // _SECTOR * _SECTOR
    end = min(len(content), begin + _SECTOR)
    return f"zeros from byte {begin} to {end}", content[:begin] + bytes(end - begin) + content[end:]


def _garbage(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    if chance.random() < 0.5:
        whole = chance.choice(WHOLE)
        return f"{whole[:8]!r} in its place", whole
    return "bytes behind its end", content + chance.randbytes(chance.randint(1, 2000))


def _lines(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    lines = content.splitlines(keepends=True)
    if len(lines) < 2:
        return _bits(content, chance)
    place = chance.randrange(len(lines) - 1)
    way = chance.choice(("left out", "twice", "exchanged with the next"))
    if way == "left out":
        del lines[place]
    elif way == "twice":
        lines.insert(place, lines[place])
    else:
        lines[place : place + 2] = lines[place : place + 2][::-1]
    return f"line {place + 1} {way}", b"".join(lines)


def _values(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    """A value of a JSON document, or of one line of several, is another one; the seal, where there is one, stays."""
    lines = content.splitlines()
    place = chance.randrange(len(lines)) if len(lines) > 1 and content[:1] == b"{" and lines[0][-1:] == b"}" else None
    document = json.loads(content if place is None else lines[place])
    if not isinstance(document, dict) or not document:
        return _bits(content, chance)
    key = chance.choice(sorted(document))
    value, way = _other(document[key], chance), chance.random()
    if way < 0.2:
        del document[key]
        done = f"without {key}"
    elif way < 0.4:
        document[key] = value = chance.choice(NONSENSE)
        done = f"{key}: {value!r:.30}"
    else:
        document[key] = value
        done = f"{key}: {value!r:.30}"
    text = json.dumps(document).encode()
    if place is None:
        return done, text
    return f"line {place + 1}, {done}", b"\n".join([*lines[:place], text, *lines[place + 1 :]]) + b"\n"


def _other(value: Any, chance: random.Random) -> Any:
    """A value of the same kind."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, (int, float)):
        return chance.choice((value + 1, value * 1.01, -value, 0))
    if isinstance(value, str) and value:
        place = chance.randrange(len(value))
        return value[:place] + chance.choice("abcdef0123456789-") + value[place + 1 :]
    if isinstance(value, list) and value:
        return value[::-1] if chance.random() < 0.5 else value[:-1]
    if isinstance(value, dict) and value:
        key = chance.choice(sorted(value))
        return {**value, key: _other(value[key], chance)}
    return chance.choice(NONSENSE)
