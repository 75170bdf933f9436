"""Where a run computes: device, threads, processes."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from yacs.config import CfgNode

from kdbench.errors import ConfigError

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

    def share_buffers(self, module: nn.Module) -> None:
        """Give the buffers of ``module`` (running statistics) in all processes the values of the main one."""
        if self.world > 1:
            for buffer in module.buffers():
                value = buffer.contiguous()  # another layout may differ between processes
                dist.broadcast(value, src=0)
                if value is not buffer:
                    buffer.copy_(value)

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.world > 1:
            dist.barrier()


def start_runtime(cfg: CfgNode) -> Runtime:
    """Pick the device and join the process group of ``torchrun``, if there is one (NCCL on GPUs, gloo on CPUs).

    Raises:
        ConfigError: the device does not exist.
    """
    if cfg.RUNTIME.THREADS > 0:
        torch.set_num_threads(cfg.RUNTIME.THREADS)
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    name = cfg.RUNTIME.DEVICE
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if world > 1 and name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise ConfigError(f"RUNTIME.DEVICE: this machine has no device {name!r}; use auto or cpu") from None
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Runtime(device, rank, world)


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

    import kdbench

    gpu = torch.cuda.get_device_name(runtime.device) if runtime.device.type == "cuda" else ""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "timm": timm.__version__,
        "kdbench": kdbench.__version__,
        "commit": _git_commit(),
        "device": runtime.device.type,
        "gpu": gpu,
        "threads": torch.get_num_threads(),
        "world_size": runtime.world,
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
