"""Choices of stages that mean the same; importing this is cheap."""

from __future__ import annotations

import fnmatch
from typing import Any

#: patterns of timm's names for which a published project's choice is what ``auto`` takes as well
AS_AUTO = {"ofakd": ("resnet*", "convnext*", "swin_*", "mobilenetv1_*")}


def plain_choice(behind: str, choice: Any) -> Any:
    """``auto`` in the place of a published project's choice that is the same for a network; other choices as they are.

    Args:
        behind: ``timm <name>`` (with or without a tag), or a name of this project's.
        choice: of ``STAGES``.
    """
    if not isinstance(choice, str):
        return choice
    project, _, name = behind.partition(" ")
    own = behind in ("Swin-Nano", "Swin-Pico", "MobileNetV1")
    same = own or (project == "timm" and any(fnmatch.fnmatch(name, pattern) for pattern in AS_AUTO.get(choice, ())))
    return "auto" if same and choice in AS_AUTO else choice
