"""A student's feature denoised towards the teacher's: noise adapter, noise network, deterministic steps (DiffKD)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_TRAIN_STEPS, _INFERENCE_STEPS, _EMBEDDINGS = 1000, 10, 1280


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution with batch norms, added to the input."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        width = channels // reduction
        self.block = nn.Sequential(
            nn.Conv2d(channels, width, 1),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, channels, 1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        made: Tensor = self.block(x) + x
        return made


def _perceptron(channels: int, factor: int) -> list[nn.Module]:
    """Two 1x1 convolutions with batch norms, ``factor`` times as wide in between."""
    wide = factor * channels
    first = [nn.Conv2d(channels, wide, 1), nn.BatchNorm2d(wide), nn.ReLU(inplace=True)]
    return [*first, nn.Conv2d(wide, channels, 1), nn.BatchNorm2d(channels)]


class NoiseAdapter(nn.Module):
    """How much of a student's feature is kept, (B, 1, 1, 1) in (0, 1); the rest is noise."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.feat = nn.Sequential(*([Bottleneck(channels, 8)] if kernel == 3 else _perceptron(channels, 2)))
        self.pred = nn.Linear(channels, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 1, 1, 1)."""
        made: Tensor = self.pred(self.feat(x).mean(dim=(2, 3))).softmax(dim=1)[:, :1, None, None]
        return made


class NoiseNetwork(nn.Module):
    """The noise in a feature at a time of the diffusion."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.time_embedding = nn.Embedding(_EMBEDDINGS, channels)
        if kernel == 3:
            both = [Bottleneck(channels, 4), Bottleneck(channels, 4)]
            self.pred = nn.Sequential(*both, nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))
        else:
            self.pred = nn.Sequential(*_perceptron(channels, 4), *_perceptron(channels, 4)[:-1])

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """(B, C, H, W) and (B,) int64 -> (B, C, H, W)."""
        made: Tensor = self.pred(x + self.time_embedding(time)[:, :, None, None])
        return made


class Autoencoder(nn.Module):
    """The teacher's map in fewer channels, and back."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(channels, width, 1), nn.BatchNorm2d(width))
        self.decoder = nn.Sequential(nn.Conv2d(width, channels, 1))


class Refinement(nn.Module):
    """One tap of DiffKD: a student's feature, refined by the lower half of ten deterministic steps, beside the teacher's.

    Args:
        student: channels.
        teacher: channels.
        kernel: 3 for maps, 1 for vectors as (B, C, 1, 1).
        width: of the compressed teacher; 0 = it is not compressed.
    """

    share: Tensor

    def __init__(self, student: int, teacher: int, kernel: int, width: int = 0) -> None:
        super().__init__()
        self.ae = Autoencoder(teacher, width) if width else None
        channels = width or teacher
        self.trans = nn.Conv2d(student, channels, 1)
        self.model = NoiseNetwork(channels, kernel)
        self.noise_adapter = NoiseAdapter(channels, kernel)
        self.proj = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))
        betas = torch.linspace(
            1e-4, 0.02, _TRAIN_STEPS, dtype=torch.float32
        )  # in this precision, as the release has it
        self.register_buffer("share", torch.cumprod(1 - betas, dim=0), persistent=False)

    def forward(
        self, student: Tensor, teacher: Tensor, start: Tensor, noise: Tensor, times: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The refined feature, what it is to equal, and the losses of the networks that refine it.

        Args:
            student: (B, C_s, H, W).
            teacher: (B, C_t, H, W), no gradient.
            start: noise of the refined shape, from which refinement starts.
            noise: the same shape, for the loss of the noise network.
            times: (B,) int64 in [0, 1000).
        """
        terms = {}
        target = teacher
        if self.ae is not None:
            hidden = self.ae.encoder(teacher)
            terms["autoencoder"] = F.mse_loss(self.ae.decoder(hidden), teacher)
            target = hidden.detach()
        refined = self.proj(self._denoised(self.trans(student), start))
        share = self.share.to(target.dtype)[times][:, None, None, None]
        found = self.model(share.sqrt() * target + (1 - share).sqrt() * noise, times)
        terms["diffusion"] = F.mse_loss(found, noise)
        return refined, target, terms

    def _denoised(self, feature: Tensor, start: Tensor) -> Tensor:
        kept = self.noise_adapter(feature)
        z = kept * feature + (1 - kept) * start
        stride = _TRAIN_STEPS // _INFERENCE_STEPS
        for time in range(_TRAIN_STEPS // 2 - stride, -1, -stride):
            times = torch.full((len(z),), time, dtype=torch.int64, device=z.device)
            share = self.share[time]  # roots are taken in its own precision, as in the release
            before = self.share[time - stride] if time >= stride else torch.ones_like(share)
            noise = self.model(z, times)
            clean = (z - (1 - share).sqrt() * noise) / share.sqrt()
            z = before.sqrt() * clean + (1 - before).sqrt() * noise
        return z
