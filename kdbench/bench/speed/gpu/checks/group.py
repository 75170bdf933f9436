"""Steps of a process group of one: DDP over NCCL (gloo on a CPU), twice, and against steps without a group."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from kdbench.bench.speed.gpu.checks.runs import teacher_file, tiny
from kdbench.bench.speed.gpu.settings import Save, Settings
from kdbench.distillers.base import Batch
from kdbench.engine.runtime import start_runtime
from kdbench.engine.session.prepare import Common, Prepared, prepare
from kdbench.engine.training.ledger import Ledger
from kdbench.engine.training.optimiser.optim import Schedule, build_optimizer
from kdbench.engine.training.step import Step, TrainStep

#: one that compares outputs, one with modules and memory of its own
_METHODS = ("KD", "CRD")
_WAIT = timedelta(seconds=20)


def run(settings: Settings, folder: Path, save: Save) -> dict[str, Any]:
    """``backend``, ``devices`` (that are visible) and rows by method: ``twice`` (two trainings in the group end in the same bits),
    ``plain`` (in those of one without a group).

    Args:
        settings: device and methods.
        folder: for files.
        save: takes the rows as far as they have come.
    """
    backend = "nccl" if settings.is_gpu else "gloo"
    found: dict[str, Any] = {"backend": backend, "devices": torch.cuda.device_count(), "rows": []}
    if not dist.is_available() or (backend == "nccl" and not dist.is_nccl_available()):
        return found | {"error": f"this build of PyTorch has no {backend}"}
    teacher = teacher_file(folder, "cpu")
    runtime = start_runtime(tiny("KD", settings.device, folder, teacher))
    store = dist.TCPStore("127.0.0.1", 0, 1, is_master=True)
    dist.init_process_group(backend, store=store, rank=0, world_size=1, timeout=_WAIT)
    try:
        for method in [name for name in _METHODS if not settings.methods or name in settings.methods]:
            ends = {}
            for name, grouped in (("one", True), ("two", True), ("plain", False)):
                run_of = prepare(tiny(method, settings.device, folder / name, teacher), common := Common(runtime))
                assert isinstance(run_of, Prepared)
                ends[name] = _train(run_of, common, grouped=grouped)
            row = {"method": method, "twice": ends["one"] == ends["two"], "plain": ends["one"] == ends["plain"]}
            found["rows"].append(row)
            save(found)
    finally:
        dist.destroy_process_group()
    return found


def _train(run: Prepared, common: Common, *, grouped: bool) -> list[bytes]:
    """An epoch's steps, one by one; the bytes of parameters and buffers."""
    device = common.runtime.device
    module = TrainStep(run.student.to(device), run.distiller.to(device)).train()
    optimizer = build_optimizer(run.cfg, module, device)
    schedule = Schedule(run.cfg, optimizer, len(run.loader))
    # DDP wraps the step of a run over several processes; this group has one
    step = Step(run.cfg, module, optimizer, Ledger(device), device, world=2 if grouped else 1)
    assert common.teacher is not None
    (channel,) = common.teacher.outputs_of([run.distiller], run.folder.path.name).values()
    for number, loaded in enumerate(run.loader.epoch(1)):
        batch = Batch(loaded.images, loaded.target, loaded.index, loaded.draw, seed=1, host_draw=loaded.host_draw)
        schedule.set(1, number)
        torch.manual_seed(number)
        loss, _ = step.forward(channel.outputs(batch), batch, number)
        step.backward(loss)
        step.update()
    return [value.detach().cpu().contiguous().numpy().tobytes() for value in module.state_dict().values()]
