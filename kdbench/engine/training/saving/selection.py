"""What the validation part decides over a run: when it stops, and which epoch's weights it leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from yacs.config import CfgNode

from kdbench.data.source import DataSource
from kdbench.errors import ConfigError

Line = Mapping[str, Any]


def check_selection(cfg: CfgNode, data: DataSource) -> None:
    """Refuse a run that is to be decided by a validation part which it does not have.

    Raises:
        ConfigError: names the key.
    """
    wanted = {"PATIENCE": cfg.SOLVER.PATIENCE > 0, "KEEP": cfg.SOLVER.KEEP == "best"}
    for key in (key for key, on in wanted.items() if on and data.val is None):
        raise ConfigError(
            f"SOLVER.{key}: {cfg.SOLVER[key]} goes by the accuracy on a validation part, and there is none; set "
            "DATASET.VAL_FRACTION"
        )


def best_line(history: Sequence[Line]) -> Line:
    """The evaluation with the highest ``val_top1``, of equal ones the earliest."""
    return max(history, key=lambda line: line["val_top1"])


def reason_to_stop(history: Sequence[Line], patience: int) -> str:
    """Why a run stops behind its last evaluation; empty where it goes on.

    Args:
        history: lines of ``metrics.jsonl``.
        patience: ``SOLVER.PATIENCE``, evaluations in a row that may bring no better ``val_top1``; 0 = any number.
    """
    if not patience or not history:
        return ""
    best = best_line(history)
    since = sum(line["epoch"] > best["epoch"] for line in history)
    if since < patience:
        return ""
    times = f"{since} evaluation{'s' * (since > 1)}"
    return f"no better val_top1 in {times} since epoch {best['epoch']} (SOLVER.PATIENCE)"


class BestWeights:
    """``SOLVER.KEEP: best``: the weights of the best epoch so far, in the host's memory and in every checkpoint."""

    def __init__(self) -> None:
        self._epoch = 0
        self._weights: dict[str, Tensor] = {}

    def see(self, history: Sequence[Line], network: nn.Module) -> None:
        """An evaluation has come: keep its weights if none was better.

        Args:
            history: lines of ``metrics.jsonl``, with the new one.
            network: that was evaluated, without its wrapper.
        """
        epoch = best_line(history)["epoch"]
        if epoch == history[-1]["epoch"]:
            self._weights = {key: value.detach().to("cpu", copy=True) for key, value in network.state_dict().items()}
            self._epoch = epoch

    def put_into(self, network: nn.Module) -> None:
        """Give ``network`` the weights that were kept."""
        network.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        """As a checkpoint holds it."""
        return {"epoch": self._epoch, "weights": self._weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self._epoch, self._weights = state["epoch"], dict(state["weights"])
