"""JSON files that kdbench reads back: whole, or damaged by a word."""

from __future__ import annotations

import json
import os

import pytest
from mutations import mutations

from kdbench.records import (
    is_amount,
    is_count,
    is_name,
    is_text,
    list_of,
    mapping_of,
    or_none,
    read_record,
    set_aside,
    write_record,
)

CONTENT = {"name": "ä/b", "count": 3, "seconds": 1.5, "texts": ["a"], "more": {"x": {"y": None}}}
KINDS = {"name": is_text, "count": is_count}
OPTIONAL = {"seconds": is_amount, "texts": list_of(is_text), "more": mapping_of(lambda value: isinstance(value, dict))}


@pytest.mark.parametrize("indent", [None, 1])
def test_every_accident_is_found(tmp_path, indent):
    file = tmp_path / "r.json"
    write_record(file, CONTENT, indent=indent)
    content, healed, refused = file.read_bytes(), 0, 0
    for what, changed in mutations(content, bits=len(content)):
        file.write_bytes(changed)
        told, found = "", {}
        try:
            found = read_record(file, KINDS, OPTIONAL)
        except ValueError as error:
            told = str(error)
        if not found:
            refused += 1
            assert 0 < len(told) < 120, what
            assert "\n" not in told, what
            continue
        healed += 1
        if not what.startswith("no seal"):
            assert CONTENT.items() <= found.items(), what
    assert refused > 300
    assert healed >= 1


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (is_name, ["KD-s1-0", "a.b", "ä"], ["", ".", "..", "a/b", "a\\b", "a\0", None, 1, ["a"]]),
        (is_count, [0, 2**63 - 1], [-1, 2**63, 1.0, True, None, "1"]),
        (is_amount, [0, 0.5, 10**300], [-0.1, float("nan"), float("inf"), 10**400, False, None, "1"]),
        (or_none(is_text), [None, ""], [1]),
    ],
)
def test_kinds(kind, good, bad):
    assert [value for value in good if not kind(value)] == []
    assert [value for value in bad if kind(value)] == []


def test_a_file_that_is_not_there_is_no_damage(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_record(tmp_path / "r.json", {}, {})


def test_what_is_set_aside_is_said_once(tmp_path, caplog, monkeypatch):
    file = tmp_path / "r.json"
    file.write_text("{")
    set_aside(file, "it is no JSON", "all is well")
    assert caplog.messages == [
        f"{file} is damaged (it is no JSON); it is renamed to r.json.damaged, and all is well",
    ]
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.json.damaged"]

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    set_aside(file, "it is no JSON", "all is well")
    assert "cannot be renamed (Permission denied); all is well" in caplog.text


def test_a_record_is_written_with_its_seal(tmp_path):
    write_record(tmp_path / "r.json", CONTENT)
    assert set(json.loads((tmp_path / "r.json").read_text())) == {*CONTENT, "seal"}
    assert read_record(tmp_path / "r.json", KINDS, OPTIONAL) == CONTENT
