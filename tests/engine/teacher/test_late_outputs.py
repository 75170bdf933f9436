"""The cache beside a GPU: rows are looked up and stored without reading it, and what is found late is told all the same."""

from __future__ import annotations

import pytest
import torch
from fake_cuda import CUDA, fake, fake_cuda

from kdbench.data.teacher_cache.cache import TeacherCache, ViewShape
from kdbench.distillers.base import Batch
from kdbench.engine.runtime import Runtime
from kdbench.engine.teacher.outputs import StoredOutputs
from kdbench.engine.teacher.views import EpochViews
from kdbench.errors import DataError
from kdbench.models.spec import ModelOutput

LAYOUT = ViewShape(rows=20, classes=3, width=5, dtype="fp16")


class OneView:
    """The views of a cache of which one is read, or written to a list."""

    def __init__(self, rows: torch.Tensor | None = None) -> None:
        self.layout, self.rows, self.written = LAYOUT, rows, []

    def read(self, draw):
        return None if self.rows is None else self.rows[: len(draw)]

    def write(self, draw, logits, penultimate):
        self.written.append((draw, logits, penultimate))

    def start(self, view, *, write=True):
        self.written.append("start")

    def end(self):
        self.written.append("end")

    def leave(self):
        self.written.append("leave")


def stored(views: OneView, live=None, device: torch.device = CUDA) -> StoredOutputs:
    return StoredOutputs(live, views, lambda epoch: epoch, device, "some teacher")


def test_reading_does_not_read_the_gpu():
    outputs, draw = stored(OneView(torch.rand(20, 8).half())), torch.arange(4)
    with fake_cuda():
        output = outputs(Batch(fake(4, 3, 8, 8), *(fake(4, dtype=torch.int64) for _ in range(3)), host_draw=draw))
        assert (output.logits.device, output.penultimate.device) == (CUDA, CUDA)
        assert (output.logits.shape, output.penultimate.shape) == ((4, 3), (4, 5))
        assert output.logits.dtype == torch.float32


def test_filling_does_not_read_the_gpu(monkeypatch):
    views, draw, sent = OneView(), torch.arange(4), []
    outputs = stored(views, lambda batch: ModelOutput(fake(4, 3), fake(4, 5)))
    monkeypatch.setattr(outputs._arrivals, "add", lambda tensors, take: sent.extend(tensors))
    with fake_cuda():
        output = outputs(Batch(fake(4, 3, 8, 8), *(fake(4, dtype=torch.int64) for _ in range(3)), host_draw=draw))
        assert output.logits.device == CUDA
        assert [(t.device, t.dtype) for t in sent] == [(CUDA, torch.float16)] * 2 + [(CUDA, torch.bool)]
    assert views.written == []


def late(monkeypatch) -> list[TapedEvent]:
    """A GPU whose copies arrive when the test says so; what it computes lies in the host's memory."""
    events: list[TapedEvent] = []
    monkeypatch.setattr(torch.cuda, "Event", lambda: events.append(TapedEvent()) or events[-1])
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda shape, dtype, pin_memory: empty(shape, dtype=dtype))
    return events


class TapedEvent:
    def __init__(self) -> None:
        self.there = self.waited = False

    def record(self) -> None:
        """Nothing."""

    def query(self) -> bool:
        return self.there

    def synchronize(self) -> None:
        self.waited = not self.there


def test_what_arrives_late_is_written_in_order(monkeypatch):
    events, views = late(monkeypatch), OneView()
    outputs = stored(views, lambda batch: ModelOutput(batch.images[:, :3], batch.images[:, 3:]))
    outputs.start(1)
    batches = [Batch(torch.rand(4, 8), *[torch.arange(4) + 4 * i] * 3) for i in range(11)]
    for number, batch in enumerate(batches):
        outputs(batch)
        if number == 3:
            assert views.written == ["start"]
            events[0].there = events[1].there = True
        if number == 4:
            assert len(views.written) == 3
    assert [event.waited for event in events] == [False, False, True] + [False] * 8  # at most eight are under way
    outputs.end()
    assert views.written[0] == "start"
    assert views.written[-1] == "end"
    assert len(views.written) == 13
    for batch, (draw, logits, penultimate) in zip(batches, views.written[1:]):
        assert torch.equal(draw, batch.draw)
        assert torch.equal(torch.cat((logits, penultimate), dim=1), batch.images.half())


@pytest.mark.parametrize(("bad", "cause"), [(1e6, "16 bits"), (float("nan"), "NaN or infinite")])
@pytest.mark.parametrize("when", ["step", "end"])
def test_a_fault_that_is_found_late_is_told_to_all_and_publishes_nothing(monkeypatch, bad, cause, when):
    events, views = late(monkeypatch), OneView()
    outputs = stored(views, lambda batch: ModelOutput(batch.images[:, :3], batch.images[:, 3:]))
    outputs.start(1)
    batch = Batch(torch.full((4, 8), bad), *[torch.arange(4)] * 3)
    outputs(batch)
    if when == "step":
        events[0].there = True
        for _ in range(2):
            with pytest.raises(DataError, match=cause):
                outputs(batch)
    for _ in range(2):
        with pytest.raises(DataError, match=cause):
            outputs.end()
    outputs.leave()
    assert views.written == ["start", "leave"]
    outputs.start(2)
    outputs.end()
    assert views.written == ["start", "leave", "start", "end"]


def test_leaving_throws_the_view_away(tmp_path):
    cache = TeacherCache(tmp_path, "k", 10**6)
    cache.write_meta({})
    views = EpochViews(cache, LAYOUT, "run", Runtime(torch.device("cpu")))
    outputs = stored(views, lambda batch: ModelOutput(batch.images[:, :3], batch.images[:, 3:]), torch.device("cpu"))
    batch = Batch(torch.rand(20, 8), *[torch.arange(20)] * 3)
    for last in (outputs.leave, outputs.end):
        outputs.start(1)
        outputs(batch)
        assert len(list(cache.folder.glob(".view*.tmp"))) == 1
        last()
        assert not list(cache.folder.glob(".view*.tmp"))
        assert cache.path(1).exists() == (last == outputs.end)
