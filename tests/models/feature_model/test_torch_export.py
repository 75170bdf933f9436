"""A FeatureModel as a program of ``torch.export``."""

from __future__ import annotations

import pytest
import torch
from torch.utils import _pytree as pytree

import kdbench
from kdbench.models.spec import ModelOutput


@pytest.mark.parametrize("name", ["small_cnn", "small_vit", "small_mixer"])
@pytest.mark.parametrize("strict", [False, True])
def test_a_network_is_exported_with_what_is_asked_of_it(name, strict):
    model = kdbench.create_model(name, num_classes=4, seed=1, data_size=8).eval()
    need = ("stages", "prefix")
    images = torch.rand(2, 3, 8, 8)
    shapes = {"images": {0: torch.export.Dim("batch")}, "need": (None, None)}
    program = torch.export.export(model, (images,), {"need": need}, dynamic_shapes=shapes, strict=strict)
    others = torch.rand(5, 3, 8, 8)
    found, own = program.module()(others, need=need), model(others, need)
    assert isinstance(found, ModelOutput)
    assert torch.equal(found.logits, own.logits)
    assert len(found.stages) == len(own.stages)
    for here, there in zip(found.stages + found.prefix, own.stages + own.prefix):
        assert torch.equal(here, there)
    assert found.cams is None


def test_a_program_is_saved_and_read(tmp_path):
    model = kdbench.create_model("small_cnn", num_classes=4, seed=1).eval()
    images = torch.rand(2, 3, 8, 8)
    torch.export.save(torch.export.export(model, (images,), strict=False), tmp_path / "model.pt2")
    found = torch.export.load(tmp_path / "model.pt2").module()(images)
    assert torch.equal(found.penultimate, model(images).penultimate)


def test_leaves_are_the_tensors_that_are_there():
    output = ModelOutput(torch.zeros(1), torch.ones(2), stages=(torch.ones(3), torch.ones(4)))
    leaves, structure = pytree.tree_flatten(output)
    assert [len(leaf) for leaf in leaves] == [1, 2, 3, 4]
    again = pytree.tree_unflatten(leaves, structure)
    assert again.logits is output.logits
    assert again.stages[1] is output.stages[1]
    assert again.cams is None
    paths = [pytree.keystr(path) for path, _ in pytree.tree_flatten_with_path(output)[0]]
    assert paths == [".logits", ".penultimate", ".stages[0]", ".stages[1]"]
