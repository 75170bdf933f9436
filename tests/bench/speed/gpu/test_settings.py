"""Sizes of readings: whole chunks of the loader, whole passes over the images."""

from __future__ import annotations

import pytest

from kdbench.bench.speed.gpu import settings as room
from kdbench.bench.speed.gpu.settings import Settings, settings_for
from kdbench.data import loader


def test_a_chunk_is_the_loaders():
    assert room._CHUNK == loader._CHUNK_PIXELS_GPU


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_readings_fit_into_an_epoch(device):
    found = settings_for(device)
    for pair in (found.small, found.large):
        for batch in filter(None, (pair.batch, pair.large_batch)):
            chunk = pair.together(batch)
            for readings in (0, 1):
                before, steps, whole = pair.window(batch, readings)
                assert before >= 8  # a captured step is replayed from the sixth one on
                assert before % chunk == steps % chunk == 0
                assert whole % pair.repeat == 0
                assert before + (readings or pair.rounds) * steps < whole


def test_larger_batches_are_read_as_long():
    pair = settings_for("cuda").small
    assert pair.window(pair.large_batch)[1] * pair.large_batch == pair.window(pair.batch)[1] * pair.batch


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_a_child_is_given_the_same(device):
    made = settings_for(device, ("KD", "DKD"), ("one.py",))
    assert Settings.from_json(made.to_json()) == made
    assert made.only(("KD",)).methods == ("KD",)
