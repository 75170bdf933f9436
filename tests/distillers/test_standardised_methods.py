"""Logit standardisation as a key of methods: it acts, on what the fork standardises, and a scale of logits no longer matters."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import kdbench
from kdbench.config.identity import beyond
from kdbench.distillers.lskd import lskd_dkd_loss, lskd_loss

CLASSES = 5


def terms(method: str, scale: float = 1.0, **keys) -> dict[str, torch.Tensor]:
    """Loss terms on fixed outputs, of which the logits are multiplied."""
    torch.manual_seed(0)
    networks = [kdbench.create_model("small_cnn", num_classes=CLASSES) for _ in range(2)]
    made = kdbench.create_distiller(method, *networks, **keys)
    images, target = torch.rand(6, 3, 8, 8), torch.arange(6) % CLASSES
    batch = kdbench.Batch(images, target, epoch=30, looks={"strong": images.flip(3)})
    own, taught = (made.taught(network, batch) for network in networks)
    looks = {name: replace(look, logits=look.logits * scale) for name, look in (own.looks or {}).items()}
    changed = replace(own, logits=own.logits * scale, looks=looks or None)
    return {"student": changed.logits, "teacher": taught.logits, **made.losses(changed, taught, batch)}


@pytest.mark.parametrize(("method", "term"), [("KD", "kd"), ("DKD", "dkd"), ("CTKD", "kd"), ("MLKD", "instance")])
def test_it_acts_and_a_scale_does_not_matter(method: str, term: str) -> None:
    plain, one, scaled = terms(method), terms(method, standardize=True), terms(method, 50.0, standardize=True)
    assert not torch.allclose(plain[term], one[term])
    torch.testing.assert_close(one[term], scaled[term], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(plain["ce"], one["ce"])
    for other in {"class", "batch"} & set(plain):
        torch.testing.assert_close(plain[other], one[other])  # of raw logits, as in the fork


def test_kd_and_dkd_are_the_forks() -> None:
    kd = terms("KD", standardize=True, temperature=2.0, kd_weight=9.0)
    torch.testing.assert_close(kd["kd"], 9 * lskd_loss(kd["student"], kd["teacher"]))
    dkd = terms("DKD", preset="standardized")
    wanted = lskd_dkd_loss(dkd["student"], dkd["teacher"], torch.arange(6) % CLASSES)
    torch.testing.assert_close(dkd["dkd"], wanted)


def test_only_runs_whose_meaning_changed_have_another_name() -> None:
    def parts(method: str, **keys) -> list:
        return beyond(kdbench.load_config(overrides={"DISTILLER.TYPE": method, **keys}), {}, 1)

    assert parts("DKD") == parts("KD", **{"KD.STANDARDIZE": True}) == []
    assert parts("DKD", **{"DKD.STANDARDIZE": True}) == [{"logits": "standardised"}]
