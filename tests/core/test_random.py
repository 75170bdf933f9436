"""The counter-based generator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from kdbench.random import CounterRNG, derive_seed, forked_seed, permutation, philox


def test_philox_known_answers():
    # Random123's kat_vectors for philox4x32-10
    zeros = philox(0, torch.zeros(4, dtype=torch.int64))
    assert [hex(v) for v in zeros.tolist()] == ["0x6627e8d5", "0xe169c58d", "0xbc57ac4c", "0x9b00dbd8"]
    ones = philox(2**64 - 1, torch.full((4,), 2**32 - 1))
    assert [hex(v) for v in ones.tolist()] == ["0x408f276d", "0x41c83b0e", "0xa20bc7c6", "0x6d5451fd"]


def test_rows_belong_to_samples():
    whole = CounterRNG(1, "s", 2, torch.arange(100)).uniform(5)
    part = CounterRNG(1, "s", 2, torch.tensor([7, 93, 7])).uniform(5)
    assert torch.equal(part, whole[[7, 93, 7]])


@pytest.mark.parametrize("change", [{"seed": 2}, {"stream": "t"}, {"epoch": 3}])
def test_every_part_of_the_key_matters(change):
    key = {"seed": 1, "stream": "s", "epoch": 2, "index": torch.arange(50)}
    assert not torch.equal(CounterRNG(**key).bits(4), CounterRNG(**{**key, **change}).bits(4))


def test_distributions():
    rng = CounterRNG(3, "d", 1, torch.arange(20_000))
    assert stats.kstest(rng.uniform(1)[:, 0].numpy(), "uniform").pvalue > 1e-3
    assert stats.kstest(rng.normal(1)[:, 0].numpy(), "norm").pvalue > 1e-3
    counts = np.bincount(rng.integers(7, 1)[:, 0].numpy(), minlength=7)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_permutation_is_one_and_depends_on_the_epoch():
    one, two = permutation(1, "order", 1, 1000), permutation(1, "order", 2, 1000)
    assert torch.equal(one.sort().values, torch.arange(1000))
    assert not torch.equal(one, two)
    assert torch.equal(one, permutation(1, "order", 1, 1000))


def test_forked_seed_leaves_the_global_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with forked_seed("x", 1):
        first = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with forked_seed("x", 1):
        assert torch.equal(torch.rand(3), first)


def test_derived_seeds_do_not_change_between_releases():
    assert derive_seed("step", 1, 2, 3) == 7705515220038851527
