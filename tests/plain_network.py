"""A network as a user writes it: a module that knows nothing of kdbench."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Plain(nn.Module):
    """Three convolutions with pooling in between, as in a first tutorial."""

    def __init__(self, num_classes: int = 7, channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.conv3 = nn.Conv2d(16, 32, 3, padding=1)
        self.fc = nn.Linear(32, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc(F.relu(self.conv3(x)).mean((2, 3)))
