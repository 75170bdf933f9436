"""Every number of a configuration has a domain, and a value outside it is refused before anything is written."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

import kdbench
from kdbench.cli.main import main
from kdbench.config.defaults import DOMAINS, WORDS, defaults
from kdbench.distillers.base import Distiller, distillers, register_distiller
from kdbench.domains import parse, violation
from kdbench.errors import ConfigError

METHODS = [name for name in distillers.names() if distillers.get(name).__module__.startswith("kdbench.")]


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def is_number(value: Any) -> bool:
    """A number, or a list that holds numbers (an empty one included: every list of a configuration is of numbers, or of words)."""
    if isinstance(value, (list, tuple)):
        return all(map(is_number, value))
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def all_domains() -> dict[str, Any]:
    """Key -> domain, of the tree and of all methods."""
    found = dict(DOMAINS)
    for name in METHODS:
        found |= {f"{name.upper()}.{key}": domain for key, domain in distillers.get(name).domains.items()}
    return found


def all_defaults() -> dict[str, Any]:
    found = dict(leaves(defaults()))
    for name in METHODS:
        found |= {f"{name.upper()}.{key}": value for key, value in leaves(distillers.get(name).defaults)}
    return found


ALL, VALUES = all_domains(), all_defaults()


def outside(key: str) -> list[Any]:
    """Values of the key's type that lie next to its domain and outside it."""
    domain, default = ALL[key], VALUES[key]
    if isinstance(domain, tuple):
        return ["nonsense"]
    low, high = (float(text.strip(" [](),")) for text in domain.split(" or ")[-1].split(","))
    step = 1 if isinstance(default, int) else 1e-3
    found = [
        value for value in (low - step, low, high, high + step) if math.isfinite(value) and not parse(domain)(value)
    ]
    if domain.startswith("-1 or"):
        found.append(-0.5)
    number = int if isinstance(default, int) else float
    found = [number(value) for value in found]
    return [[value] for value in found] if isinstance(default, (list, tuple)) else found


def settings(key: str, value: Any) -> dict[str, Any]:
    node = key.partition(".")[0]
    method = next((name for name in METHODS if name.upper() == node), "NONE")
    return {"DISTILLER.TYPE": method, key: value}


NO_NUMBERS = (*WORDS, "DISTILLER.TEACHERS")


@pytest.mark.parametrize("key", [key for key, value in VALUES.items() if is_number(value) and key not in NO_NUMBERS])
def test_every_number_has_a_domain_and_lies_in_it(key):
    assert key in ALL
    assert violation(VALUES[key], ALL[key]) is None


@pytest.mark.parametrize("key", ALL)
def test_every_domain_belongs_to_a_key_whose_default_lies_in_it(key):
    assert violation(VALUES[key], ALL[key]) is None


@pytest.mark.parametrize("name", METHODS)
def test_published_settings_lie_in_their_domains(name):
    for preset, values in distillers.get(name).presets.items():
        for key, value in leaves(values):
            if is_number(value) and key.partition(".")[0] not in ("STUDENT", "TEACHER"):  # keys of the networks
                assert violation(value, ALL[f"{name.upper()}.{key}"]) is None, (preset, key)


@pytest.mark.parametrize("key", ALL)
def test_a_value_outside_is_refused(key):
    for value in outside(key):
        with pytest.raises(ConfigError) as caught:
            kdbench.load_config(overrides=settings(key, value))
        message = str(caught.value)
        shown = value[0] if isinstance(value, list) else value
        assert key in message
        assert (f"{shown:g}" if isinstance(shown, float) else repr(shown)) in message
        expected = ALL[key] if isinstance(ALL[key], str) else ", ".join(word or "''" for word in ALL[key])
        assert expected in message
        assert "\n" not in message


@pytest.mark.parametrize("key", [key for key, value in VALUES.items() if isinstance(value, float)])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", math.nan, math.inf])
def test_what_is_not_finite_lies_in_no_domain(key, value):
    with pytest.raises(ConfigError, match=key):
        kdbench.load_config(overrides=settings(key, value))


@pytest.mark.parametrize("value", [math.nan, math.inf, 10**400, [1, math.nan], {"x": [math.inf]}])
def test_options_are_finite_too(value):
    for overrides in ({"STUDENT.OPTIONS.a": value}, {"STUDENT.OPTIONS": {"a": value}}, {"STUDENT.OPTIONS.a.b": value}):
        with pytest.raises(ConfigError, match=r"STUDENT\.OPTIONS.*: holds a number that is not finite"):
            kdbench.load_config(overrides=overrides)


@pytest.mark.parametrize("key", ["SOLVER.LR", "SOLVER.EPOCHS", "OFA.EPS", "SOLVER.LR_DECAY_STAGES"])
def test_a_number_beyond_all_floats_is_refused(key):
    value = 10**400
    with pytest.raises(ConfigError, match=key):
        kdbench.load_config(
            overrides={"DISTILLER.TYPE": "OFA", key: [value] if "_STAGES" in key or "EPS" in key else value}
        )


@pytest.mark.parametrize("value", ["[.nan]", "[.inf]", "[true]", "[word]"])
def test_entries_of_a_list_are_numbers(value):
    for key in ("OFA.EPS", "DISTILLER.PART_WEIGHTS", "SOLVER.LR_DECAY_STAGES", "HCD.STAGES", "UHKD.PAIRS"):
        node = key.partition(".")[0]
        with pytest.raises(ConfigError, match=key):
            kdbench.load_config(
                overrides=[f"DISTILLER.TYPE={node if node in ('OFA', 'HCD', 'UHKD') else 'NONE'}", f"{key}={value}"]
            )


def test_the_command_ends_before_a_folder_exists(tmp_path, capsys):
    words = [
        "--cfg",
        "configs/digits/student.yaml",
        "--distiller",
        "KD",
        "KD.TEMPERATURE=0",
        f"LOG.PREFIX={tmp_path}/runs",
    ]
    assert main(["train", *words]) == 2
    assert capsys.readouterr().err == "kdbench: override: KD.TEMPERATURE: 0 lies outside (0, inf)\n"
    assert not (tmp_path / "runs").exists()


def test_domains_of_a_method_that_is_not_used_do_not_matter():
    kdbench.load_config(overrides={"DISTILLER.TYPE": "DKD", "KD.TEMPERATURE": 0})


@pytest.mark.parametrize(
    ("domain", "inside", "out"),
    [
        ("(0, 1]", (1e-9, 0.5, 1), (0, -1, 1.0001, math.nan, math.inf)),
        ("[0, inf)", (0, 1e300), (-1e-9, math.inf, math.nan)),
        ("-1 or [0, 1]", (-1, 0, 1), (-0.5, -2, 1.5)),
    ],
)
def test_what_a_domain_holds(domain, inside, out):
    assert all(parse(domain)(value) for value in inside)
    assert not any(parse(domain)(value) for value in out)


@pytest.mark.parametrize("domain", ["positive", "[1, 0]", "0, 1", "[0; 1]"])
def test_a_domain_that_cannot_be_read_is_found_at_registration(domain):
    made = type("Mine", (Distiller,), {"defaults": {"T": 1.0}, "domains": {"T": domain}})
    with pytest.raises(TypeError, match="Mine: no domain"):
        register_distiller("Mine")(made)


def test_a_default_outside_its_domain_is_found_at_registration():
    made = type("Mine", (Distiller,), {"defaults": {"T": 1.0}, "domains": {"T": "(1, 2]"}})
    with pytest.raises(TypeError, match="a default lies outside"):
        register_distiller("Mine")(made)


def test_lists_and_cards_tell_the_domains(capsys):
    assert main(["list", "methods", "WTTM", "--detail"]) == 0
    assert "GAMMA (0, 1], BETA [0, inf)" in capsys.readouterr().out
