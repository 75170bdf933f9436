"""Workflows, issue forms and hooks: well-formed, and of commands that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

TARGETS = set(re.findall(r"^([a-z-]+):", Path("Makefile").read_text(encoding="utf-8"), re.MULTILINE))
FORMS = sorted(Path(".github/ISSUE_TEMPLATE").glob("*.yml"))


def test_workflows_run_targets_of_the_makefile():
    jobs = yaml.safe_load(Path(".github/workflows/test.yml").read_text(encoding="utf-8"))["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert "make test" in commands
    for command in commands:
        for target in re.findall(r"make ([a-z-]+)", command):
            assert target in TARGETS
    assert jobs["tests"]["strategy"]["matrix"]["python"] == ["3.10", "3.13"]


@pytest.mark.parametrize("form", FORMS, ids=lambda file: file.stem)
def test_issue_forms_have_what_a_form_must_have(form):
    tree = yaml.safe_load(form.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= set(tree)
    assert len({part["id"] for part in tree["body"]}) == len(tree["body"])
    assert all(part["type"] in ("input", "textarea") and part["attributes"]["label"] for part in tree["body"])
