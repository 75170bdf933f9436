"""Augmentation of whole batches, every parameter drawn per sample.

A parameter of sample ``b`` is a pure function of (seed, epoch, draw[b]); see :mod:`kdbench.random`. Drawing one crop
for the whole batch, as torchvision's transforms do when they are given a batch, would be another augmentation.

The order is timm's: crop, flip, then RandAugment or AutoAugment or colour jitter, then erasing; mixing comes last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from yacs.config import CfgNode

from kdbench.data.augmentation import forms
from kdbench.data.augmentation.colour import jitter, jitter_draws
from kdbench.data.augmentation.crops import box_draws, enlarge, flip_some, pad_crop, random_boxes, resize
from kdbench.data.augmentation.decode import CentreCut, RandomCut
from kdbench.data.augmentation.erase import erase, erase_boxes
from kdbench.data.augmentation.mixing import mix_pairs, mixing_draws, soft_labels
from kdbench.data.augmentation.policies.policy import make_policy
from kdbench.data.augmentation.policies.policy_plan import PolicyPlan, plan_policy
from kdbench.data.augmentation.resample import crop_resize
from kdbench.data.augmentation.rows import to_bytes
from kdbench.data.source import IMAGENET_STATISTICS, Standard, Statistics
from kdbench.errors import ConfigError
from kdbench.random import CounterRNG
from kdbench.transfer import send


@dataclass(frozen=True)
class HostDraws:
    """What of an augmentation is drawn by the host, wherever the images lie.

    Attributes:
        plan: of the policy; None where there is none.
        mixing: share and rectangle of each pair, see :func:`kdbench.data.augmentation.mixing.mixing_draws`; None without mixing.
    """

    plan: PolicyPlan | None = None
    mixing: tuple[Tensor, Tensor] | None = None

    def to(self, device: torch.device) -> HostDraws:
        """The same on a device, without waiting for it."""
        if device.type == "cpu":
            return self
        plan = None if self.plan is None else self.plan.to(device)
        mixing = None if self.mixing is None else (send(self.mixing[0], device), send(self.mixing[1], device))
        return HostDraws(plan, mixing)


@dataclass(frozen=True)
class Augment:
    """What is done to a training batch.

    Attributes:
        crop: ``none``, ``pad`` (zero padding, then a random crop of the old size) or ``rrc`` (RandomResizedCrop).
        pad: pixels on each side, for ``pad``.
        flip: probability of a horizontal flip.
        scale, ratio: area and aspect ratio of ``rrc``, as in torchvision.
        interpolation: ``bilinear``, ``bicubic`` or ``random`` (one of them a sample), for ``rrc`` and RandAugment's geometry.
        size: side of the result; 0 = as the images are.
        color_jitter: strength of brightness, contrast and saturation; a policy in ``auto`` takes its place, as in timm.
        auto: ``rand-...`` (timm's RandAugment), ``cifar`` (AutoAugment) or nothing.
        erase: probability of random erasing.
        mixup, cutmix: parameter of the Beta distribution; 0 = off.
        mixup_switch: probability of cutmix where both are on.
        statistics: mean and standard deviation of the data: fill colour of RandAugment, noise of erasing.
        num_classes, smoothing: of the soft labels that mixing makes.
    """

    crop: str
    pad: int
    flip: float
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (0.75, 4 / 3)
    interpolation: str = "bilinear"
    size: int = 0
    color_jitter: float = 0.0
    auto: str = ""
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    mixup_switch: float = 0.5
    statistics: Statistics = IMAGENET_STATISTICS
    num_classes: int = 0
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        make_policy(self.auto)
        if self.mixes and self.num_classes < 1:
            raise ConfigError("AUGMENT.MIXUP and AUGMENT.CUTMIX make soft labels and need the number of classes")

    @classmethod
    def from_config(
        cls,
        cfg: CfgNode,
        standard: Standard,
        size: int,
        *,
        num_classes: int = 0,
        statistics: Statistics = IMAGENET_STATISTICS,
    ) -> Augment:
        """``AUGMENT`` with the data set's standard where a key is left at auto.

        Raises:
            ConfigError: a policy that does not exist, or mixing without ``num_classes``.
        """
        node = cfg.AUGMENT
        return cls(
            crop=standard.crop if node.CROP == "auto" else node.CROP,
            pad=standard.pad if node.PAD < 0 else node.PAD,
            flip=standard.flip if node.FLIP < 0 else node.FLIP,
            scale=node.RRC_SCALE,
            ratio=node.RRC_RATIO,
            interpolation=node.INTERPOLATION,
            size=size,
            color_jitter=node.COLOR_JITTER,
            auto=node.AUTO,
            erase=node.ERASE,
            mixup=node.MIXUP,
            cutmix=node.CUTMIX,
            mixup_switch=node.MIXUP_SWITCH,
            statistics=statistics,
            num_classes=num_classes,
            smoothing=cfg.SOLVER.LABEL_SMOOTHING,
        )

    @property
    def mixes(self) -> bool:
        """Mixup or cutmix is on, so that labels are soft."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def drawn_by_host(self) -> bool:
        """Whether :meth:`draw_on_host` has anything to do."""
        return bool(self.auto) or self.mixes

    def draw_on_host(self, seed: int, epoch: int, draw: Tensor, side: int, pairs: Tensor | None = None) -> HostDraws:
        """What the host draws: (B,) ``draw`` and (P,) numbers of the ``pairs`` that are mixed lie in its memory.

        Pair ``j`` are positions 2j and 2j + 1 of the epoch's order. ``side`` is that of the images when they are augmented.
        """
        policy, plan, mixing = make_policy(self.auto, self.interpolation), None, None
        if policy:
            fill = tuple(float(min(255, round(255 * mean))) for mean in self.statistics[0])
            plan = plan_policy(policy, self.streams(seed, epoch, draw), side, fill)  # type: ignore[arg-type]
        if self.mixes and pairs is not None:
            rng = CounterRNG(seed, "augment/mix", epoch, pairs)
            mixing = mixing_draws(rng, self.mixup, self.cutmix, self.mixup_switch, side, side)
        return HostDraws(plan, mixing)

    def __call__(
        self,
        images: Tensor,
        seed: int,
        epoch: int,
        draw: Tensor,
        *,
        cut: bool = True,
        plan: PolicyPlan | None = None,
    ) -> Tensor:
        """(B, 3, H, W) uint8 -> (B, 3, S, S) float, in [0, 1] but for the noise of erasing.

        Args:
            images: on any device.
            seed: of the augmentation.
            epoch: counted from 1.
            draw: (B,) int64, on the device of the images.
            cut: False says that RandomResizedCrop was done already, by :meth:`random_cut`. Mixing is :meth:`mix`.
            plan: of the policy, from :meth:`draw_on_host`, on the device; without it, a policy has the device read for ``draw``.
        """
        streams = self.streams(seed, epoch, draw)
        flipped = streams("flip").uniform(1)[:, 0] < self.flip if self.flip > 0 else None
        policy = bool(self.auto)
        # Policies work on uint8; without one, the division by 255 is done while the images are still small.
        scaled = Tensor.float if policy else forms.to_unit
        if cut and self.crop == "rrc":
            box = random_boxes(streams("rrc"), images.shape[-2], images.shape[-1], self.scale, self.ratio)
            cubic = self._cubic(streams("interpolation"))
            result = crop_resize(scaled(images), box, self.size or images.shape[-1], cubic, flipped)
            if self.interpolation != "bilinear":
                result.clamp_(0.0, 255.0 if policy else 1.0)
        else:
            if self.crop == "pad" and self.pad:
                images = pad_crop(images, self.pad, streams("crop").integers(2 * self.pad + 1, 2), flipped)
            else:
                images = images.clone() if flipped is None else flip_some(images, flipped)
            if policy and self.size in (0, images.shape[-1]):
                result = images
            else:
                result = (enlarge if self.size > images.shape[-1] else resize)(scaled(images), self.size)
        if policy:
            result = result if result.dtype == torch.uint8 else to_bytes(result.add_(0.5))
            if plan is None:
                plan = self.draw_on_host(seed, epoch, draw.cpu(), result.shape[-1]).to(result.device).plan
            assert plan is not None
            result = forms.to_unit(plan.run(result))
        elif self.color_jitter > 0:
            result = jitter(result, *jitter_draws(streams("jitter"), self.color_jitter))
        if self.erase > 0:
            boxes = erase_boxes(streams("erase"), result.shape[-2], result.shape[-1], self.erase)
            result = erase(result, boxes, streams("erase-noise"), self.statistics)
        return result

    def random_cut(self, seed: int, epoch: int, draw: Tensor, size: int) -> RandomCut | None:
        """What cuts each image while it is decoded; None for ``pad`` and ``none``, which need images of one size."""
        if self.crop != "rrc":
            return None
        streams = self.streams(seed, epoch, draw)
        return RandomCut(box_draws(streams("rrc")), self._cubic(streams("interpolation")), size, self.scale, self.ratio)

    def mix(self, images: Tensor, labels: Tensor, mixing: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Mixup and cutmix of rows 2i and 2i + 1.

        Args:
            images: (B, 3, S, S) float; written to.
            labels: (B,) int64.
            mixing: of :meth:`draw_on_host`, on the device of the images.

        Returns:
            ``images`` and (B, K) labels, smoothed and mixed.
        """
        return mix_pairs(images, soft_labels(labels, self.num_classes, self.smoothing), *mixing)

    def streams(self, seed: int, epoch: int, draw: Tensor) -> Callable[[str], CounterRNG]:
        """The random streams of an epoch's draws, by name."""
        return lambda stream: CounterRNG(seed, f"augment/{stream}", epoch, draw)

    def _cubic(self, rng: CounterRNG) -> Tensor:
        if self.interpolation == "random":
            return rng.uniform(1)[:, 0] < 0.5
        return torch.full_like(rng.index, self.interpolation == "bicubic", dtype=torch.bool)


def evaluation_images(images: Tensor, cut: CentreCut) -> Tensor:
    """(B, 3, H, W) uint8 -> (B, 3, S, S) float in [0, 1], nothing drawn."""
    # Bicubic overshoots; the clamp is what the conversion to bytes does elsewhere.
    return cut(forms.to_unit(images)).clamp_(0.0, 1.0)
