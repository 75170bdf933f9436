"""A module in another module's clothes: same parameters under the same names, other methods."""

from __future__ import annotations

from typing import Any

from torch import nn


class TransparentWrapper(nn.Module):
    """Base of adapters around a foreign network whose state dict is that network's own, without a prefix.

    Submodules, parameters and buffers are the network's own dictionaries, so that moving, loading or replacing them here
    is seen there; the network itself is held where :class:`nn.Module` does not look for submodules.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._modules, self._parameters, self._buffers = network._modules, network._parameters, network._buffers
        self._non_persistent_buffers_set = network._non_persistent_buffers_set
        self._held = (network,)

    @property
    def network(self) -> Any:
        """The network as it was."""
        return self._held[0]

    @property
    def training(self) -> bool:  # type: ignore[override]
        """The network's own mode."""
        held = self.__dict__.get("_held")
        return held[0].training if held else True

    @training.setter
    def training(self, mode: bool) -> None:
        if "_held" in self.__dict__:
            self._held[0].training = mode
