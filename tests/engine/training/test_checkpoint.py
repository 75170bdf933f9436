"""Checkpoints that were damaged are never believed: the run goes on from the epoch before, and ends in the same bytes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from tiny_run import content, settings

import kdbench
from kdbench.engine.training.saving.checkpoint import load_checkpoint, previous, save_checkpoint
from kdbench.errors import KdbenchError, StorageError

EPOCHS = 4


def killed(folder, epoch: int) -> Path:
    """A run that was stopped within ``epoch``; its folder."""

    def stop(at, step, steps):
        if (at, step) == (epoch, 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kdbench.train(settings(folder, EPOCHS), progress=stop)
    (place,) = (file.parent for file in Path(folder).rglob("checkpoint.pt"))
    return place


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return content(Path(kdbench.train(settings(tmp_path_factory.mktemp("whole"), EPOCHS)).folder))


def flipped(content: bytes, seed: int) -> bytes:
    place = random.Random(seed).randrange(8 * len(content))
    changed = bytearray(content)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


@pytest.mark.parametrize("seed", range(8))
def test_one_bit_that_was_flipped(tmp_path, whole, caplog, seed):
    folder = killed(tmp_path, 4)
    file = folder / "checkpoint.pt"
    file.write_bytes(flipped(file.read_bytes(), seed))
    begun = []
    kdbench.train(settings(tmp_path, EPOCHS), progress=lambda epoch, *_: begun.append(epoch))
    assert content(folder) == whole
    assert begun[0] == 3  # the epoch before was kept
    assert "is damaged" in caplog.text
    assert (folder / "checkpoint.pt.damaged").is_file()


@pytest.mark.parametrize("size", [0, 1, 100, -1, -100])
def test_one_that_was_cut(tmp_path, whole, size):
    folder = killed(tmp_path, 4)
    file = folder / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[:size])
    kdbench.train(settings(tmp_path, EPOCHS))
    assert content(folder) == whole


def test_both_damaged_is_the_beginning(tmp_path, whole, caplog):
    folder = killed(tmp_path, 4)
    for file in (folder / "checkpoint.pt", previous(folder / "checkpoint.pt")):
        assert file.is_file()
        file.write_bytes(b"nothing")
    kdbench.train(settings(tmp_path, EPOCHS))
    assert content(folder) == whole
    assert "goes on from the beginning" in caplog.text


def test_a_kill_between_the_two_renames(tmp_path, whole):
    folder = killed(tmp_path, 4)
    (folder / "checkpoint.pt").unlink()
    kdbench.train(settings(tmp_path, EPOCHS))
    assert content(folder) == whole


def test_one_without_a_seal_is_read_and_the_next_is_sealed(tmp_path, whole):
    folder = killed(tmp_path, 4)
    file = folder / "checkpoint.pt"
    torch.save(load_checkpoint(file), file)
    kdbench.train(settings(tmp_path, EPOCHS))
    assert content(folder) == whole


@pytest.mark.parametrize("state", [[], {"epoch": "two"}, {"epoch": 2, "history": [], "metrics_bytes": 0}])
def test_one_that_holds_something_else(tmp_path, whole, state):
    folder = killed(tmp_path, 4)
    save_checkpoint(folder / "checkpoint.pt", state)
    kdbench.train(settings(tmp_path, EPOCHS))
    assert content(folder) == whole


def test_a_whole_one_of_another_run_is_refused(tmp_path):
    folder = killed(tmp_path, 4)
    state = load_checkpoint(folder / "checkpoint.pt")
    state["student"] = {key: value[:1] for key, value in state["student"].items() if value.dim()}
    save_checkpoint(folder / "checkpoint.pt", state)
    with pytest.raises(KdbenchError, match=r"checkpoint\.pt does not fit this run .*delete it"):
        kdbench.train(settings(tmp_path, EPOCHS))


@pytest.mark.parametrize("damage", [b"", b"nonsense\n", b'{"epoch": 1, "top1": 99.0}\n'])
def test_damaged_metrics_are_written_anew(tmp_path, whole, damage):
    folder = killed(tmp_path, 4)
    (folder / "metrics.jsonl").write_bytes(damage)
    kdbench.train(settings(tmp_path, EPOCHS))
    assert content(folder) == whole


def test_a_finished_run_keeps_one_checkpoint(tmp_path):
    folder = Path(kdbench.train(settings(tmp_path, EPOCHS)).folder)
    assert [file.name for file in folder.glob("checkpoint*")] == ["checkpoint.pt"]


def test_a_checkpoint_that_cannot_be_written_leaves_nothing(tmp_path):
    class Unwritable:
        def __reduce__(self):
            raise OSError("disk full")

    with pytest.raises(StorageError, match="cannot be written: disk full"):
        save_checkpoint(tmp_path / "checkpoint.pt", {"epoch": 1, "bad": Unwritable()})
    assert not list(tmp_path.iterdir())
