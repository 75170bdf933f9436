"""Networks and data that are handed over as objects: a run has them by names that say what is in them."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn
from yacs.config import CfgNode

from kdbench.data.sets.brought.given import giving
from kdbench.data.sets.brought.items import data_from_datasets
from kdbench.data.source import DataSource
from kdbench.errors import ConfigError, ModelError
from kdbench.models.backbone.transparent import TransparentWrapper
from kdbench.models.feature_model.model import FeatureModel
from kdbench.models.registry import GIVEN, ModelEntry
from kdbench.models.weights.read import state_sha256

_PLAIN = (bool, int, float, str, type(None))
_DIGITS = 12
_SIZE = 32  # of which no use is made: a plain module is fed with images as they come


@contextmanager
def handed_over(cfg: CfgNode, *, student: Any = None, teacher: Any = None, data: Any = None) -> Iterator[CfgNode]:
    """A configuration that has objects in the place of its names, as long as the block runs.

    A network is copied whenever it is built, so that the object stays as it is. Its name ends in a digest of its weights, its
    structure and the plain attributes of its modules; the code of its classes counts as that of any network of the user's.

    Args:
        cfg: from :func:`kdbench.load_config`.
        student, teacher: a module or a :class:`kdbench.FeatureModel`; None leaves the configuration's.
        data: a :class:`kdbench.DataSource`, or torch data sets ``(train, test)`` or ``(train, test, val)``; None as above.

    Raises:
        ConfigError: an object of another kind.
        ModelError: a teacher that does not say how its input is normalised.
        DataError: see :func:`kdbench.data_from_datasets`.
    """
    made = cfg.clone()
    made.defrost()
    with ExitStack() as stack:
        for role, network in (("STUDENT", student), ("TEACHER", teacher)):
            if network is not None:
                made.DISTILLER[role] = stack.enter_context(_giving(network, role, cfg))
        if data is not None:
            made.DATASET.TYPE, options = stack.enter_context(giving(_source(data)))
            made.DATASET.OPTIONS = CfgNode(options)
        made.freeze()
        yield made


@contextmanager
def _giving(network: Any, role: str, cfg: CfgNode) -> Iterator[str]:
    if not isinstance(network, nn.Module):
        raise ConfigError(
            f"{role.lower()}=: expects a module or a kdbench.FeatureModel, got {type(network).__name__}; a name is "
            f"DISTILLER.{role}"
        )
    faced = network if isinstance(network, FeatureModel) else None
    if role == "TEACHER" and faced is None and cfg.TEACHER.NORM == "auto" and not cfg.TEACHER.WEIGHTS:
        raise ModelError(
            f"the teacher, a {type(network).__name__}, does not say how its input is normalised; set TEACHER.NORM (dataset, "
            "imagenet, none, ...), or hand over kdbench.wrap_model(..., statistics=...)"
        )
    bare = faced.backbone if faced is not None else network
    title = type(bare.network if isinstance(bare, TransparentWrapper) else bare).__name__
    mark = f"{title}-{object_digest(network)[:_DIGITS]}"
    GIVEN[mark] = ModelEntry(
        f"given:{mark}",
        _Copies(network),
        faced.spec.family if faced is not None else _family(network),
        input_size=faced.input_size[0] if faced is not None else _SIZE,
        any_size=faced is None,
        about="handed over as an object",
        statistics=faced.statistics if faced is not None else None,
        own_weights=state_sha256(bare.state_dict()),
    )
    try:
        yield f"given:{mark}"
    finally:
        GIVEN.pop(mark, None)


class _Copies:
    """The builder of an object: every network that it builds is a copy."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        #: what defines it, for the record of the user's code
        self.classes = tuple(dict.fromkeys(cls for one in _modules(network) for cls in type(one).__mro__[:-1]))

    def __call__(self, num_classes: int) -> nn.Module:
        try:
            return copy.deepcopy(self._network)
        except Exception as error:
            reason = " ".join(str(error).split())[:160]
            raise ModelError(f"{type(self._network).__name__} cannot be copied ({reason})") from error


def object_digest(network: nn.Module) -> str:
    """Hexadecimal digest of a network as an object: classes, structure, plain attributes, weights and which of them are trained."""
    found = hashlib.sha256(state_sha256(network.state_dict()).encode())
    for number, module in enumerate(_modules(network)):
        plain = {k: v for k, v in vars(module).items() if k != "training" and _is_plain(v)}
        line = (number, type(module).__qualname__, module.extra_repr(), sorted(plain.items()))
        found.update(repr(line).encode(errors="surrogatepass"))
        found.update(state_sha256(dict(module.named_buffers(recurse=False))).encode())
    found.update(repr([(key, value.requires_grad) for key, value in network.named_parameters()]).encode())
    if isinstance(network, FeatureModel):
        face = (network.input_size, network.statistics, [stage.name for stage in network.spec.stages])
        found.update(repr((face, network.spec.family)).encode())
    return found.hexdigest()


def _modules(network: nn.Module) -> Iterator[nn.Module]:
    """A network's modules, with those that a wrapper holds where nobody looks for submodules."""
    for module in network.modules():
        yield module
        if isinstance(module, TransparentWrapper):
            yield module.network


def _is_plain(value: Any) -> bool:
    return isinstance(value, _PLAIN) or (isinstance(value, (tuple, list)) and all(map(_is_plain, value)))


def _family(network: nn.Module) -> str:
    """Of a module that says nothing of itself: by what is in it."""
    kinds = {type(module) for module in network.modules()}
    if any(issubclass(kind, nn.MultiheadAttention) or "attention" in kind.__name__.lower() for kind in kinds):
        return "vit"
    return "cnn" if any(isinstance(m, nn.Conv2d) and m.kernel_size != m.stride for m in network.modules()) else "mlp"


def _source(data: Any) -> DataSource:
    if isinstance(data, DataSource):
        return data
    if isinstance(data, (tuple, list)) and len(data) in (2, 3):
        return data_from_datasets(data[0], data[1], val=data[2] if len(data) == 3 else None)
    raise ConfigError(
        f"data=: expects a kdbench.DataSource or torch data sets (train, test), got {type(data).__name__}; a name is DATASET.TYPE"
    )
