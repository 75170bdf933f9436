"""``kdbench list methods``: what a reader chooses by, and where it comes from."""

from __future__ import annotations

import itertools
import json

import pytest

from kdbench.catalogue import COMPARED, methods
from kdbench.cli.main import main


@pytest.fixture
def rows(capsys):
    assert main(["list", "methods", "--json"]) == 0
    return {row["name"]: row for row in json.loads(capsys.readouterr().out)}


def test_every_method_says_what_it_compares(rows):
    assert {row["compares"] for row in rows.values()} == {"labels", "logits", "features", "relations"}
    expected = {
        "KD": "logits",
        "DKD": "logits",
        "SDD": "logits",
        "FITNET": "features",
        "RKD": "relations",
        "Vanilla": "labels",
    }
    assert {name: rows[name]["compares"] for name in expected} == expected


def test_methods_stand_by_what_they_compare_then_by_name(capsys):
    assert main(["list", "methods"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    found = [(next(word for word in line if word in COMPARED), line[0].lower()) for line in lines]
    assert found == sorted(found, key=lambda row: (COMPARED.index(row[0]), row[1]))
    assert [kind for kind, _ in itertools.groupby(found, key=lambda row: row[0])] == list(COMPARED)


def test_years_are_those_of_the_papers(rows):
    expected = {
        "KD": "2014",
        "FITNET": "2015",
        "CC": "2019",
        "DKD": "2022",
        "OFA": "2023",
        "HCD": "2026",
        "VITKD": "2022",
        "UHKD": "2025",
        "Vanilla": "",
    }
    assert {name: rows[name]["year"] for name in expected} == expected  # no number of an arXiv paper among them
    assert all(row["year"] == "" or 2010 < int(row["year"]) < 2030 for row in rows.values())


def test_the_status_agrees_with_what_was_compared(rows):
    for name, row in rows.items():
        assert (row["status"] == "verified") == ("@" in row["verified"] or row["verified"] == "by definition"), name
    assert (rows["IPWD"]["status"], rows["UHKD"]["status"], rows["HCD"]["status"]) == (
        "unverified",
        "re-derived",
        "from the paper",
    )


def test_costs_are_the_measured_ones(rows):
    assert rows["KD"]["x KD"] == "1.00"
    assert float(rows["Vanilla"]["x KD"]) < 1 < float(rows["HCD"]["x KD"])


def test_hashes_are_for_those_who_ask(capsys):
    assert main(["list", "methods"]) == 0
    assert "mdistiller@" not in capsys.readouterr().out
    assert main(["list", "methods", "--detail"]) == 0
    assert "mdistiller@" in capsys.readouterr().out


def test_kinds_that_are_declared_are_known():
    known = methods()
    assert {known.get(name).kind for name in known.names()} <= {"", "logits", "features", "relations"}


def test_another_name_of_the_same_is_found(capsys):
    for kind, alias, name in (("methods", "kd_ours", "MLKD"), ("models", "DINOv2-ViT-S", "DINOv2 (ViT-S)")):
        assert main(["list", kind, alias]) == 0
        listed = capsys.readouterr().out.splitlines()
        assert len(listed) == 2
        assert listed[1].startswith(name)


def test_what_a_method_is_about_can_be_read_at_80_columns(capsys, monkeypatch):
    for columns, needs in (("80", False), ("120", True)):
        monkeypatch.setenv("COLUMNS", columns)
        assert main(["list", "methods"]) == 0
        header, *lines = capsys.readouterr().out.splitlines()
        assert all(len(line) <= int(columns) for line in lines)
        assert len(header) + 30 - len("about") <= int(columns)
        assert ("needs" in header) == needs
