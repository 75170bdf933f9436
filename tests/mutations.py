"""Accidents of a JSON file: bits, lengths, keys and values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

#: values that are well-formed, and nearly always wrong
NONSENSE: tuple[Any, ...] = (
    None, True, -1, 10**400, 1e308, float("nan"), "", "..", "a/b", "\ud800", [], {}, [None], {"a": []},
)  # fmt: skip
WHOLE = (b"", b"[]", b"null", b"0", b'"x"', b"{}", b"\xff\xfe\x00", b"[" * 100_000, b'{"a":' * 100_000, b"1" * 5_000)


def mutations(content: bytes, *, bits: int = 60) -> Iterator[tuple[str, bytes]]:
    """Each a word for what was done, and the file's new content. ``bits`` flips are spread over the file."""
    yield from ((f"whole: {text[:8]!r}", text) for text in WHOLE)
    for number in range(bits):
        place = number * len(content) // bits
        yield (
            f"bit {number % 8} of byte {place}",
            content[:place] + bytes([content[place] ^ 1 << number % 8]) + content[place + 1 :],
        )
    for part in (1, 3, 7, 9):
        yield f"{part}/10 of it", content[: len(content) * part // 10]
    document = json.loads(content)
    for key in document:
        yield f"without {key}", json.dumps({k: v for k, v in document.items() if k != key}).encode()
        for value in NONSENSE:
            yield f"{key}: {value!r:.20}", json.dumps({**document, key: value}).encode()
            bare = {k: v for k, v in {**document, key: value}.items() if k != "seal" or key == "seal"}
            yield f"no seal, {key}: {value!r:.20}", json.dumps(bare).encode()
