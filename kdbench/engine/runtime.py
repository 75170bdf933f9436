"""Where a run computes: device, threads, processes."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from yacs.config import CfgNode

from kdbench.errors import ConfigError
from kdbench.processes.board import PATIENCE
from kdbench.processes.place import rank_and_world
from kdbench.processes.together import agree, current, shared_store
from kdbench.processes.verdict import Steps
from kdbench.version import __version__

try:
    import resource
except ImportError:  # Windows has none
    resource = None  # type: ignore[assignment]

T = TypeVar("T")


@dataclass(frozen=True)
class Runtime:
    """Device of this process and its place among the processes of one run."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Sum over all processes."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def all(self, flag: bool) -> bool:
        """Whether ``flag`` holds in all processes."""
        if self.world == 1:
            return flag
        return bool(self.sum(torch.tensor(float(flag), device=self.device)) == self.world)

    def from_main(self, value: T) -> T:
        """What the main process holds, in all processes: what one of them read from a disk must not be read again by the
        others, who may find something else there. The value can be pickled."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def gathered(self, value: T) -> list[T]:
        """What each process holds, by rank, in all processes. The values can be pickled."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value)
        return found

    def share_buffers(self, module: nn.Module) -> None:
        """Give the buffers of ``module`` (running statistics) in all processes the values of the main one."""
        if self.world > 1:
            share_buffers(module)

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.world > 1:
            dist.barrier()

    @contextlib.contextmanager
    def steps(self) -> Iterator[Steps]:
        """Inside, all processes take the same steps: each tells when a step begins (``next``), or something else in which it may be
        alone (``rest``). One that others wait for much longer than for any step before is taken for stuck."""
        watch = current()
        steps = Steps() if watch is None else watch.steps
        try:
            yield steps
        finally:
            steps.rest()


def start_runtime(cfg: CfgNode) -> Runtime:
    """Pick the device and join the process group of ``torchrun``, if there is one (NCCL on GPUs, gloo on CPUs).

    Raises:
        ConfigError: the device does not exist, or the processes differ in their versions.
    """
    if cfg.RUNTIME.THREADS > 0:
        torch.set_num_threads(cfg.RUNTIME.THREADS)
    rank, world = rank_and_world()
    device = pick_device(cfg.RUNTIME.DEVICE, world)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        _repeat_to_the_bit(cfg.RUNTIME.DETERMINISTIC)
    if world > 1 and not dist.is_initialized():
        agree("versions", {"kdbench": __version__, "PyTorch": torch.__version__, "the kind of device": device.type})
        # Death is noticed by the processes' watch, within a minute; this is the longest that one may wait for a living one. NCCL's
        # own handling of errors is on by default (TORCH_NCCL_ASYNC_ERROR_HANDLING) and keeps to the same time.
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=dist.PrefixStore("kdbench/group", shared_store()),
            rank=rank,
            world_size=world,
            timeout=PATIENCE,
        )
    return Runtime(device, rank, world)


def share_buffers(module: nn.Module) -> None:
    """In each of several processes: give the buffers of ``module`` the values of the main one."""
    for buffer in module.buffers():
        value = buffer.contiguous()  # another layout may differ between processes
        dist.broadcast(value, src=0)
        if value is not buffer:
            buffer.copy_(value)


def _repeat_to_the_bit(on: bool) -> None:
    """Have a GPU's kernels add in a fixed order, or not: PyTorch's deterministic mode, in which an operation that has no such
    kernel is an error. CPUs repeat without it."""
    if on:
        # read when cuBLAS starts, at the process's first matrix product; with fewer buffers its results may vary
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False  # it picks kernels by their time
    torch.use_deterministic_algorithms(on)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # it costs a pass over each new tensor


@contextlib.contextmanager
def deterministic_errors() -> Iterator[None]:
    """Say in one line which operation inside cannot be repeated to the bit.

    Raises:
        ConfigError: PyTorch has no deterministic form of it.
    """
    try:
        yield
    except RuntimeError as error:
        operation, found, _ = str(error).partition(" does not have a deterministic implementation")
        if not found:
            raise
        raise ConfigError(
            f"RUNTIME.DETERMINISTIC: PyTorch's {operation.split()[-1]} cannot be repeated to the bit on a GPU; set "
            "RUNTIME.DETERMINISTIC=False to train without that promise"
        ) from None


def pick_device(name: str, world: int = 1) -> torch.device:
    """The device that ``RUNTIME.DEVICE`` means: ``auto``, ``cpu``, ``cuda`` or ``cuda:<index>``.

    ``auto`` is a GPU where there is one, else the CPU. A GPU without an index is the process's own: ``LOCAL_RANK`` among several
    processes of one run, else the first visible one. A CUDA device always has an index: some of PyTorch's calls take no other.

    Raises:
        ConfigError: the device does not exist.
    """
    name = name.lower()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) if world > 1 else 0)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        gpus = torch.cuda.device_count()
        there = f"{gpus} GPU{'s' * (gpus > 1)}" if gpus else "no GPU"
        raise ConfigError(
            f"RUNTIME.DEVICE: this machine has no device {name!r} ({there} visible); use auto, cpu or cuda:<index>"
        ) from None
    return device


def device_name(device: torch.device) -> str:
    """A device in words: of a GPU its product name, of a CPU the threads."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    threads = torch.get_num_threads()
    return f"{str(device).upper()} ({threads} thread{'s' * (threads > 1)})"


def peak_rss_bytes() -> dict[str, int]:
    """``{"peak_rss_bytes": n}``, the largest resident set of this process so far; empty where the system does not say."""
    if resource is None:
        return {}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"peak_rss_bytes": peak if sys.platform == "darwin" else 1024 * peak}  # macOS counts bytes, Linux kilobytes


def environment(runtime: Runtime) -> dict[str, Any]:
    """What a result depends on besides its configuration, for the record."""
    import timm
    import torchvision

    gpu = torch.cuda.get_device_name(runtime.device) if runtime.device.type == "cuda" else ""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "timm": timm.__version__,
        "kdbench": __version__,
        "commit": _git_commit(),
        "device": runtime.device.type,
        "gpu": gpu,
        "threads": torch.get_num_threads(),
        "world_size": runtime.world,
        "deterministic": runtime.device.type == "cpu" or torch.are_deterministic_algorithms_enabled(),
        "platform": f"{sys.platform}-{platform.machine()}",
    }


def _git_commit() -> str:
    """Commit of the source tree that is running, with ``+`` where it was changed; empty outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    try:
        commit = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
        dirty = subprocess.run(["git", "-C", str(root), "diff", "--quiet", "HEAD"], capture_output=True, check=False)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit.stdout.strip() + ("+" if dirty.returncode else "")
