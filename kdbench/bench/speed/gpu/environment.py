"""On what is measured: card, memory, driver, versions, cores."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch

from kdbench.bench.speed.gpu.checks.runs import tiny
from kdbench.bench.speed.gpu.settings import Save, Settings
from kdbench.engine.runtime import environment, start_runtime

#: seconds for nvidia-smi
_WAIT = 20


def run(settings: Settings, folder: Path, save: Save) -> dict[str, Any]:
    """What a result depends on besides kdbench, by name; a card's values where there is one."""
    runtime = start_runtime(tiny("KD", settings.device, folder, ""))
    found = {**environment(runtime), "cores": os.cpu_count(), "processor": platform.processor() or platform.machine()}
    found |= {"cuda": torch.version.cuda or "none", "cudnn": torch.backends.cudnn.version() or "none"}
    found |= {"gpus": torch.cuda.device_count(), "compile": _compile()}
    if runtime.device.type == "cuda":
        card = torch.cuda.get_device_properties(runtime.device)
        free, whole = torch.cuda.mem_get_info(runtime.device)
        found |= {"memory_gib": whole / 2**30, "free_gib": free / 2**30, "driver": _driver()}
        found |= {"capability": f"{card.major}.{card.minor}", "multiprocessors": card.multi_processor_count}
    return found


def _compile() -> str:
    try:
        import triton
    except ImportError:
        return "no triton"
    return f"triton {triton.__version__}"


def _driver() -> str:
    """As nvidia-smi tells it."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return "unknown: no nvidia-smi"
    words = [command, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=_WAIT)
    except (subprocess.SubprocessError, OSError) as error:
        return f"unknown: {error}"
    return done.stdout.splitlines()[0].strip() if done.stdout else "unknown"
