"""mdistiller's networks for Tiny-ImageNet: those for 32x32 images, by names that mean them at 64 pixels, too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import kdbench
from kdbench.models.names import find_entry

LAYOUTS = json.loads((Path(__file__).parents[2] / "golden" / "models" / "checkpoint_layouts.json").read_text())


@pytest.mark.parametrize(("name", "grids"), [("ResNet18", [64, 32, 16, 8]), ("ShuffleV2", None)])
def test_a_checkpoint_of_200_classes_fits(tmp_path, name, grids):
    layout = {key: list(shape) for key, shape in LAYOUTS[name].items()}
    state = {
        key: torch.zeros(shape).long() if "num_batches" in key else torch.rand(shape) for key, shape in layout.items()
    }
    head = next(key for key in layout if layout[key][:1] == [100] and len(layout[key]) == 2).rpartition(".")[0]
    for part in ("weight", "bias"):
        state[f"{head}.{part}"] = torch.rand(200, *layout[f"{head}.{part}"][1:])
    file = tmp_path / "ti_res18"
    torch.save({"model": state}, file)
    model = kdbench.create_model(f"cifar:{name}", num_classes=200, data_size=64, weights=str(file), norm="imagenet")
    torch.testing.assert_close(model.backbone.state_dict()[f"{head}.weight"], state[f"{head}.weight"])
    assert model.input_size == (64, 64)
    if grids:
        assert [stage.grid[0] for stage in model.spec.stages] == grids
    assert model.eval()(torch.rand(2, 3, 64, 64), need={"logits"}).logits.shape == (2, 200)


def test_the_bare_name_is_the_papers_network_at_this_size():
    assert find_entry("ResNet18", 64).name == "paper:ResNet18"
    assert find_entry("ResNet18", 32).build is find_entry("cifar:ResNet18", 64).build
