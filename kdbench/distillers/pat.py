"""Perspective-aware teaching."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from kdbench.distillers.base import Batch, DataInfo, Distiller, Losses, register_distiller
from kdbench.distillers.parts.networks.pat import Blending, Feedback, Prompt, aligner
from kdbench.distillers.parts.numerics import full_precision, tempered_kl, with_terms
from kdbench.distillers.parts.stage_pairs import asked, hierarchical_mse, pair_stages
from kdbench.errors import ConfigError
from kdbench.models.spec import ModelSpec


@full_precision
def pat_feature_loss(
    student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor], *, return_terms: bool = False
) -> Any:
    """Sum over stages of ReviewKD's hierarchical context loss (Lin et al., ICCV 2025; equal to PAT@a7aff3f).

    Args:
        student_maps: (B, C, H, W) maps or (B, L, C) tokens of a square grid, row-major, without prefix tokens.
        teacher_maps: the prompted teacher's, of the same shapes; the gradient flows into them as well.
        return_terms: also return ``stage_0`` ...

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    terms = {
        f"stage_{i}": hierarchical_mse(_as_map(s), _as_map(t))
        for i, (s, t) in enumerate(zip(student_maps, teacher_maps, strict=True))
    }
    return with_terms(torch.stack(tuple(terms.values())).sum(), terms, return_terms)


@full_precision
def pat_regularization_loss(
    teacher_logits: Tensor, prompted_logits: Tensor, *, temperature: float = 1.0, return_terms: bool = False
) -> Any:
    """``T^2 mean_b KL(softmax(z_t / T) || softmax(z_t' / T))``: prompting must not change what the teacher says.

    Args:
        teacher_logits: (B, K) of the teacher as it is, no gradient.
        prompted_logits: (B, K) of the prompted teacher.
        temperature: T; 1 in the release.
        return_terms: also return ``kl``.

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    loss = tempered_kl(prompted_logits, teacher_logits, temperature).mean()
    return with_terms(loss, {"kl": loss}, return_terms)


@register_distiller("PAT")
class PAT(Distiller):
    """Perspective-Aware Teaching (Lin et al., ICCV 2025): region-aware attention blends the student's stages and brings
    them to the teacher's, while adaptive feedback prompts bend the frozen teacher towards the student.

    ``CE + KL(z_t || z_s) + L_FD + L_reg``. The teacher runs twice a step, once with prompts, and the gradient flows
    through it into them; cached outputs cannot serve. The feedback, aligned student minus prompted teacher, is that of
    the step before, hence of other images. It is a buffer, and is skipped where the batch size has changed.

    Three faults of the release are mended, so that its published numbers come from other code:

    1. A token teacher's prompted map went back to tokens by a bare reshape, which scrambled it even at beta = 0; it is
       permuted back.
    2. The last token was dropped as the class token, which stands first; the prefix tokens are dropped.
    3. The position code was indexed by the sample; it is indexed by the token.

    Kept as released: both squeeze-and-excitation blocks of a prompt give their gate alone, so that a prompt is an
    offset a channel; the fusing 5x5 convolution is a full one, the prompting one depthwise; nearest resizing and a 1x1
    convolution where feedback and prompted map differ in shape. Ours: S stages where the paper has four, and no biases
    that a normalisation takes out again.

    ``L_FD`` compares maps as they are, and its gradient reaches the prompts through the teacher, so that their first steps grow
    with the teacher's maps. A teacher that was never trained has running statistics (mean 0, variance 1) of no data, with which
    the maps of a residual network in evaluation mode grow from block to block. The last one of a fresh resnet32x4 had a root
    mean square of 23 on random 32x32 images, beside 0.6 of the aligned student. The gradient of the first beta was 546; one
    step at LR 0.05 made it 27, and ``L_FD`` went from 524 over 5e5 and 3e19 to NaN. After fifty batches in training mode,
    without any training of the teacher, that gradient was 0.08, and ``L_FD`` fell from 8.3. ``SOLVER.CLIP_GRAD: 5`` kept
    another fresh one from diverging: its ``L_FD`` fell from 718 to 161 in twenty steps.
    """

    reference = "Lin et al. Perspective-Aware Teaching: Adapting Knowledge for Heterogeneous Distillation. ICCV 2025"
    verified = "PAT@a7aff3f (the losses; its modules, mended in three places, were not compared number by number)"
    teacher_needs = {"logits", "stages"}
    student_needs = {"logits", "stages"}
    needs_networks = True
    grad_teacher = True
    unused_parameters = True  # the prompts, in the first step and behind a batch of another size
    defaults = {
        "TEMPERATURE": 1.0,
        "DIM": 512,
        "HEADS": 8,
        "LOSS": {"CE_WEIGHT": 1.0, "KD_WEIGHT": 1.0, "FEAT_WEIGHT": 1.0, "REG_WEIGHT": 1.0},
    }
    domains = {
        "TEMPERATURE": "(0, inf)",
        "DIM": "[1, inf)",
        "HEADS": "[1, inf)",
        "LOSS.CE_WEIGHT": "[0, inf)",
        "LOSS.KD_WEIGHT": "[0, inf)",
        "LOSS.FEAT_WEIGHT": "[0, inf)",
        "LOSS.REG_WEIGHT": "[0, inf)",
    }

    @classmethod
    def refuses(cls, student: ModelSpec, teacher: ModelSpec | None, cfg: CfgNode, data: DataInfo) -> str | None:
        if teacher is not None and teacher.stem is None:
            return f"the teacher {teacher.name} cannot be run stage by stage"
        return super().refuses(student, teacher, cfg, data)

    def setup(self) -> None:
        student, teacher, dim = self.student_spec, self.teacher_spec, self.cfg.DIM
        if dim % self.cfg.HEADS:
            raise ConfigError(f"PAT.DIM: {dim} is no multiple of PAT.HEADS, {self.cfg.HEADS}")
        with self.seeded("blending"):
            self.blending = Blending(student.stages, dim, self.cfg.HEADS)
        targets = [t for _, t in pair_stages(student.stages, teacher.stages)]
        #: teacher stages in front of the first one that has a student stage beside it
        self.skipped = len(teacher.stages) - len(targets)
        self.aligners = nn.ModuleList()
        for i, stage in enumerate(targets):
            with self.seeded(f"aligner_{i}"):
                self.aligners.append(aligner(dim, stage, teacher.token_features))
            self.register_buffer(f"feedback_{i}", torch.empty(0))
        self.prompts = nn.ModuleList()
        self.feedbacks = nn.ModuleDict()
        for i, (entry, stage) in enumerate(zip([asked(teacher.stem), *teacher.stages[:-1]], teacher.stages)):
            with self.seeded(f"prompt_{i}"):
                self.prompts.append(Prompt(entry.channels, fuse=i >= self.skipped))
                if i >= self.skipped:
                    self.feedbacks[str(i)] = Feedback(stage, entry)

    def forward(self, student: nn.Module, teacher: Any, batch: Batch) -> Losses:
        loss = self.cfg.LOSS
        own = student(batch.images, need=self.student_needs)
        with torch.no_grad():
            plain = teacher(batch.images, need={"logits"}).logits
        maps, prompted = self._prompted_teacher(teacher, batch.images)
        tokens = self.blending(asked(own.stages))[-len(maps) :]
        aligned = [align(x) for align, x in zip(self.aligners, tokens)]
        for i, (s, t) in enumerate(zip(aligned, maps)):
            held: Tensor = getattr(self, f"feedback_{i}")
            if held.shape != s.shape:
                _take_shape(held, s.detach() - t.detach())
            # In place, for a captured step; in the modules' precision whatever autocast says, for a resumed run.
            torch.sub(s.detach(), t.detach(), out=held)
        kd = pat_regularization_loss(plain, own.logits, temperature=self.cfg.TEMPERATURE)
        return {
            "ce": loss.CE_WEIGHT * self.cross_entropy(own.logits, batch),
            "kd": loss.KD_WEIGHT * kd,
            "feature": loss.FEAT_WEIGHT * pat_feature_loss(aligned, maps),
            "reg": loss.REG_WEIGHT * pat_regularization_loss(plain, prompted),
        }

    def _prompted_teacher(self, teacher: Any, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """The prompted teacher's maps (of the stages that have a partner) and logits."""
        maps: list[Tensor] = []
        x = teacher.begin(images)
        for i in range(len(self.teacher_spec.stages)):
            entry, prefix = teacher.to_map(i - 1, x)
            x = teacher.from_map(i - 1, self.prompts[i](entry, self._feedback(i, len(images))), prefix)
            x = teacher.run_stage(i, x)
            maps.append(teacher.to_map(i, x)[0])
        return maps[self.skipped :], teacher.finish(x).logits

    def _feedback(self, i: int, size: int) -> Tensor | None:
        if i < self.skipped:
            return None
        held: Tensor = getattr(self, f"feedback_{i - self.skipped}")
        return self.feedbacks[str(i)](held) if len(held) == size else None

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        # The feedback has the shape of the last batch, which a new instance cannot know. Its layout counts, too: a convolution
        # of other strides adds in another order.
        for i in range(len(self.aligners)):
            saved = state_dict.get(f"{prefix}feedback_{i}")
            if saved is not None:
                _take_shape(getattr(self, f"feedback_{i}"), saved)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _take_shape(held: Tensor, like: Tensor) -> None:
    """Give ``held`` the shape and the strides of ``like``, which has no gaps; in its own memory where that is large enough."""
    held.resize_(like.numel()).as_strided_(like.shape, like.stride())


def _as_map(feature: Tensor) -> Tensor:
    """Tokens (B, L, C) laid out on their square grid; maps as they are."""
    if feature.dim() == 4:
        return feature
    side = math.isqrt(feature.shape[1])
    return feature.transpose(1, 2).unflatten(2, (side, side))
