"""What a method trains before the first epoch: whether this run can do so, before a folder exists."""

from __future__ import annotations

from kdbench.distillers.base import Distiller
from kdbench.errors import IncompatibleError


def check_phases(distiller: Distiller, world: int) -> None:
    """Refuse several processes, which would not share what they learn before the first epoch.

    Raises:
        IncompatibleError: names the phase.
    """
    names = [phase.name for phase in distiller.phases() if phase.epochs]
    if names and world > 1:
        raise IncompatibleError(
            f"{distiller.name} trains its {', '.join(names)} before the first epoch, which one process does; {world} are not "
            "possible"
        )
