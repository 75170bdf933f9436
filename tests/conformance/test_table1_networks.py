"""The conformance matrix with the networks of the paper's Table 1 at 224 pixels: every method, every pair, one step.

``KDBENCH_UPDATE_MATRIX=1 pytest tests/conformance/test_table1_networks.py -m slow -p no:xdist`` writes the table anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from outcome_table import compare

from kdbench import list_distillers
from kdbench.bench.methods.conformance import check_pair

pytestmark = pytest.mark.slow
TABLE = Path(__file__).with_name("table1.json")
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "Swin-T": ("Swin-T", {"input_size": 224}),
    "ViT-S": ("ViT-S", {"input_size": 224}),
    "Mixer-B/16": ("Mixer-B/16", {"input_size": 224}),
    "ResNet18": ("paper:ResNet18", {"input_size": 224}),
    "MobileNetV2": ("paper:MobileNetV2", {"input_size": 224}),
}


@pytest.mark.parametrize("student", ["ResNet18", "MobileNetV2"])
@pytest.mark.parametrize("teacher", ["Swin-T", "ViT-S", "Mixer-B/16"])
@pytest.mark.parametrize("method", list_distillers())
def test_pair(method: str, teacher: str, student: str) -> None:
    compare(TABLE, method, f"{teacher} -> {student}", check_pair(method, teacher, student, models=NETWORKS, batch=2))
