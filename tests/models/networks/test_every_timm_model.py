"""All of timm: a spec for every name, and one network of every family against itself."""

from __future__ import annotations

import time
import warnings

import pytest
import timm
import torch
from timm.models._registry import _model_to_module

from kdbench.errors import ModelError
from kdbench.models.zoo import create_model

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("part", range(8))
def test_every_name_has_a_spec_on_the_meta_device(part: int, record_property) -> None:
    names = timm.list_models()
    assert len(names) >= 1371
    started, failed = time.perf_counter(), {}
    for name in names[part::8]:
        try:
            with torch.device("meta"):
                spec = create_model(f"timm:{name}", num_classes=10).spec
        except ModelError as error:
            failed[name] = str(error)
            continue
        assert spec.penultimate > 0, name
        assert 1 <= len(spec.stages) <= 4, (name, spec.stages)
        for stage in spec.stages:
            assert min(stage.channels, *stage.grid) > 0, name
    record_property("seconds", round(time.perf_counter() - started, 1))
    assert not failed


#: parameters; families without a smaller network would take minutes each on one core
LARGEST = 60e6


def smallest_of_each_family() -> list[str]:
    """One name a module of timm: that with the fewest parameters, among those whose name says small."""
    by_family: dict[str, list[str]] = {}
    for name in timm.list_models():
        by_family.setdefault(_model_to_module[name], []).append(name)
    chosen = []
    for names in by_family.values():
        hints = ("atto", "femto", "pico", "nano", "xxs", "tiny", "_ti", "_t", "050", "small", "_s", "b0", "18", "_m0")
        ranked = [n for hint in hints for n in names if hint in n] or names
        with torch.device("meta"):
            sizes = {n: sum(p.numel() for p in timm.create_model(n, num_classes=10).parameters()) for n in ranked[:6]}
        smallest = min(sizes, key=lambda n: sizes[n])
        if sizes[smallest] < LARGEST:
            chosen.append(smallest)
    return chosen


def check_against_itself(name: str) -> None:
    """Logits, shapes of the stages and the run by stages of a network at its own input size."""
    model = create_model(f"timm:{name}", num_classes=10, seed=0, norm="imagenet").eval()
    images = torch.rand(1, 3, *model.input_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        bare = model.backbone(model.prepare(images))
        bare = bare[0] if isinstance(bare, tuple) else bare
        full = model(images, need=model.spec.provides)
        for output in (model(images), full):
            torch.testing.assert_close(output.logits, bare, rtol=1e-5, atol=1e-5)
        shapes = [tuple(m.shape[1:]) for m in full.stages or ()]
        assert shapes == [(s.channels, *s.grid) for s in model.spec.stages]
        if model.spec.stem is not None:
            x = model.begin(images)
            for i in range(len(model.spec.stages)):
                x = model.run_stage(i, x)
            torch.testing.assert_close(model.finish(x).logits, bare, rtol=1e-5, atol=1e-5)


def test_the_wrapper_says_what_the_backbone_says(record_property) -> None:
    """One network of every family (at least 40) at its own input size."""
    seen, failed = [], {}
    for name in smallest_of_each_family():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                check_against_itself(name)
            seen.append(name)
        except (ModelError, AssertionError, RuntimeError, TypeError, AttributeError) as error:
            failed[name] = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    record_property("families", len(seen))
    assert not failed
    assert len(seen) >= 40
