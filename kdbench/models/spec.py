"""What a method may know of a network: its spec, and the outputs of one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

#: (mean, std) of a network's input, one number a channel, in [0, 1]
Statistics = tuple[Sequence[float], Sequence[float]]
#: of a network that is fed with images as they are
IDENTITY: Statistics = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
#: Everything that a method can ask of a network. ``logits`` and ``penultimate`` are always there.
OUTPUT_KINDS = (
    "logits",
    "penultimate",
    "stages",
    "prefix",
    "cams",
    "region_maps",
    "region_logits",
    "pre_activation",
    "bn_affine",
    "head_logits",
    "classifier",
)


@dataclass(frozen=True)
class StageSpec:
    """One stage: ``channels`` maps of ``grid = (h, w)``, and how many class/register tokens stand in front of them."""

    channels: int
    grid: tuple[int, int]
    prefix_tokens: int = 0
    name: str = ""


@dataclass(frozen=True)
class ModelSpec:
    """Shape of a network as methods see it; a pure value, so that a teacher can be described without being built.

    Attributes:
        name: the name that it was created by.
        family: ``cnn``, ``vit`` or ``mlp`` (``hybrid`` where timm's own family says so).
        num_classes: K.
        penultimate: D, width of the pooled vector that the classifier sees.
        input_size: (h, w) that the backbone is fed with, after the wrapper's resize.
        stages: shallow to deep, at most four, never the stem.
        pre_activation: stages before their last activation; empty where the network has no such thing.
        provides: the output kinds that this network can give.
        token_features: stages are token sequences laid out on their grid (ViT, Swin, Mixer), not convolution maps.
        params: number of parameters.
        stem: shape of what the first stage receives; None where the network cannot be run stage by stage
            (``begin``, ``run_stage``, ``to_map``, ``from_map``, ``finish``).
        head: how the classifier reads the last features: ``gap`` (mean over places, then linear), ``token``
            (a class token), ``other``.
    """

    name: str
    family: str
    num_classes: int
    penultimate: int
    input_size: tuple[int, int]
    stages: tuple[StageSpec, ...] = ()
    pre_activation: tuple[StageSpec, ...] = ()
    provides: frozenset[str] = frozenset({"logits", "penultimate"})
    token_features: bool = False
    params: int = 0
    head: str = "other"
    stem: StageSpec | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {**asdict(self), "provides": sorted(self.provides)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelSpec:
        """The inverse of :meth:`to_dict`."""

        def stage(entry: Any) -> StageSpec | None:
            return None if entry is None else StageSpec(**{**entry, "grid": tuple(entry["grid"])})

        made = dict(values)
        for key in ("stages", "pre_activation"):
            made[key] = tuple(stage(entry) for entry in made[key])
        made["stem"] = stage(made.get("stem"))
        return cls(**{**made, "provides": frozenset(made["provides"]), "input_size": tuple(made["input_size"])})


@dataclass
class ModelOutput:
    """Outputs of one forward pass; whatever was not asked for is None.

    Attributes:
        logits: (B, K).
        penultimate: (B, D), pooled, the classifier's input.
        stages: one (B, C, H, W) map a stage, shallow to deep.
        prefix: one (B, P, C) tensor of class and register tokens a stage (P may be 0).
        cams: (B, K, H, W), the classifier applied at each place of the last map, without its bias.
        region_maps: (B, C, H, W), the map whose pooled regions the classifier reads.
        region_logits: (B, K, 21), the classifier (with bias) on the regions of
            :func:`kdbench.models.feature_model.regions.sdd_pool` at scales 1, 2, 4.
        pre_activation: like ``stages``, before the last activation.
        bn_affine: one (2, C) tensor a stage of ``pre_activation``: weight and bias of the batch normalisation in front
            of that activation. Constant: no batch dimension.
        head_logits: (B, K) of the class token's head and (B, K) of the distillation token's, whose mean ``logits`` is.
        classifier: (K, D) weight and (K,) bias of the linear layer from ``penultimate`` to ``logits``. Constant as well.
        looks: the outputs for further looks at the same images, by name.
        others: of several teachers, those behind the first one.
    """

    logits: Tensor
    penultimate: Tensor
    stages: tuple[Tensor, ...] | None = None
    prefix: tuple[Tensor, ...] | None = None
    cams: Tensor | None = None
    region_maps: Tensor | None = None
    region_logits: Tensor | None = None
    pre_activation: tuple[Tensor, ...] | None = None
    bn_affine: tuple[Tensor, ...] | None = None
    head_logits: tuple[Tensor, ...] | None = None
    classifier: tuple[Tensor, ...] | None = None
    looks: dict[str, ModelOutput] | None = None
    others: tuple[ModelOutput, ...] | None = None

    @property
    def each(self) -> tuple[ModelOutput, ...]:
        """The outputs of every teacher, of the first one and the others."""
        return (self, *(self.others or ()))

    def map(self, fn: Callable[[Tensor], Tensor]) -> ModelOutput:
        """A copy with ``fn`` applied to every tensor."""
        changed: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                changed[field.name] = fn(value)
            elif isinstance(value, dict):
                changed[field.name] = {name: output.map(fn) for name, output in value.items()}
            elif value is not None:
                changed[field.name] = tuple(v.map(fn) if isinstance(v, ModelOutput) else fn(v) for v in value)
        return replace(self, **changed)  # type: ignore[arg-type]

    def detach(self) -> ModelOutput:
        """The same values, cut from the graph."""
        return self.map(Tensor.detach)


def _flatten(output: ModelOutput) -> tuple[list[Any], list[str]]:
    names = [field.name for field in fields(output) if getattr(output, field.name) is not None]
    return [getattr(output, name) for name in names], names


def _flatten_with_keys(output: ModelOutput) -> tuple[list[tuple[Any, Any]], list[str]]:
    values, names = _flatten(output)
    return [(pytree.GetAttrKey(name), value) for name, value in zip(names, values)], names


def _unflatten(values: Iterable[Any], names: Sequence[str]) -> ModelOutput:
    return ModelOutput(**dict(zip(names, values)))


# torch.export takes a network only where it can take its outputs apart. What was not asked for is no leaf, but structure.
# The names are JSON as they are, which a saved program needs.
pytree.register_pytree_node(
    ModelOutput,
    _flatten,
    _unflatten,
    serialized_type_name="kdbench.models.spec.ModelOutput",
    flatten_with_keys_fn=_flatten_with_keys,
)
