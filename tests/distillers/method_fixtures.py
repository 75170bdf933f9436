"""Small synthetic networks and outputs that methods are tried on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from kdbench.distillers.base import Batch, DataInfo, Distiller, distillers
from kdbench.models.spec import ModelOutput, ModelSpec, StageSpec

CLASSES, SAMPLES = 10, 40
CONV_KINDS = {"stages", "prefix", "pre_activation", "bn_affine", "cams", "region_logits"}
METHODS = (
    *("AT", "CATKD", "CC", "CRD", "CTKD", "FCFD", "FITNET", "IPWD", "LSKD", "OFD", "PAT", "REVIEWKD", "RKD", "RLD"),
    *("RSD", "SDD", "SDD_DKD", "TEKAP", "TEKAP_F", "TTM", "UHKD", "WTTM"),
    *("KDSVD", "MGD", "NKD", "NST", "PKT", "SDD_NKD", "SP", "SRD", "USKD", "VID", "WSLD"),
    *("AFD", "CHSIM", "ICKD", "MLDR_KD", "SEMCKD", "SRRL"),
)
INSIDE = ("FCFD", "PAT")


def make_spec(kind: str, *, width: int = 16) -> ModelSpec:
    """``cnn3``, ``cnn4``, ``vit3``, ``vit4`` or ``mixer4``: family and number of stages."""
    family, count = kind[:-1], int(kind[-1])
    base = {"logits", "penultimate", "stages", "prefix", "classifier"}
    if family == "cnn":
        channels, grids = [width, width, 2 * width, 2 * width], [(16, 16), (8, 8), (4, 4), (2, 2)]
        stages = tuple(StageSpec(c, g) for c, g in zip(channels[:count], grids[:count]))
        return ModelSpec(
            kind, "cnn", CLASSES, stages[-1].channels, (32, 32), stages, stages, frozenset(base | CONV_KINDS), False, 0,
            "gap", StageSpec(width, (16, 16)),
        )  # fmt: skip
    prefix = 1 if family == "vit" else 0
    stages = tuple(StageSpec(width, (4, 4), prefix) for _ in range(count))
    provides = frozenset(base if prefix else base | {"cams", "region_logits"})
    head = "token" if prefix else "gap"
    name = "vit" if prefix else "mlp"
    return ModelSpec(kind, name, CLASSES, width, (32, 32), stages, (), provides, True, 0, head, stages[0])


def random_output(spec: ModelSpec, size: int, *, seed: int, grad: bool = False) -> ModelOutput:
    """Everything that the spec provides, normally distributed, in float64."""
    g = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64).requires_grad_(grad)

    values: dict[str, Any] = {
        "logits": draw(size, CLASSES),
        "penultimate": draw(size, spec.penultimate),
        "stages": tuple(draw(size, s.channels, *s.grid) for s in spec.stages),
        "prefix": tuple(draw(size, s.prefix_tokens, s.channels) for s in spec.stages),
        "pre_activation": tuple(draw(size, s.channels, *s.grid) for s in spec.pre_activation),
        "bn_affine": tuple(draw(2, s.channels).detach() for s in spec.pre_activation),
        "cams": draw(size, CLASSES, *spec.stages[-1].grid),
        "region_logits": draw(size, CLASSES, 21),
        "classifier": (draw(CLASSES, spec.penultimate).detach(), draw(CLASSES).detach()),
    }
    return ModelOutput(**{key: value for key, value in values.items() if key in spec.provides})


def make_batch(size: int = 8, *, epoch: int = 3, seed: int = 0) -> Batch:
    g = torch.Generator().manual_seed(100 + seed)
    index = torch.randperm(SAMPLES, generator=g)[:size]
    images = torch.rand(size, 3, 32, 32, generator=g)
    return Batch(images, labels()[index], index, index, epoch=epoch, progress=0.1, seed=0)


def labels() -> Tensor:
    return torch.arange(SAMPLES) % CLASSES


def data_info() -> DataInfo:
    return DataInfo(CLASSES, SAMPLES, labels())


def config(name: str, **changes: Any) -> CfgNode:
    """The method's node with small banks and widths; ``LOSS__CE_WEIGHT=2`` changes a nested key."""
    node = CfgNode(distillers.get(name).defaults)
    small = {"CRD": {"NCE__K": 12}, "TEKAP_F": {"NCE__K": 12}, "PAT": {"DIM": 32, "HEADS": 4}}.get(name, {})
    for key, value in {**small, **changes}.items():
        *path, last = key.split("__")
        target = node
        for part in path:
            target = target[part]
        target[last] = value
    return node


def build(name: str, student: ModelSpec, teacher: ModelSpec, *, seed: int = 0, **changes: Any) -> Distiller:
    return distillers.get(name)(student, teacher, config(name, **changes), data_info(), seed=seed)


class FakeNetwork(nn.Module):
    """A network with the wrapper's interface: begin, run_stage, to_map, from_map, finish and one call for all of it."""

    def __init__(self, spec: ModelSpec, *, seed: int = 0) -> None:
        super().__init__()
        self.spec = spec
        torch.manual_seed(seed)
        stem = spec.stem
        assert stem is not None
        self.tokens = spec.token_features
        self.stem = nn.Conv2d(3, stem.channels, 32 // stem.grid[0], stride=32 // stem.grid[0])
        self.cls = nn.Parameter(torch.randn(1, stem.prefix_tokens, stem.channels))
        self.blocks = nn.ModuleList()
        before = stem
        for stage in spec.stages:
            stride = before.grid[0] // stage.grid[0]
            conv = nn.Conv2d(before.channels, stage.channels, 3, stride=stride, padding=1)
            mix = nn.Sequential(nn.LayerNorm(stage.channels), nn.Linear(stage.channels, stage.channels), nn.GELU())
            self.blocks.append(mix if self.tokens else nn.Sequential(conv, nn.BatchNorm2d(stage.channels), nn.ReLU()))
            before = stage
        self.head = nn.Linear(spec.penultimate, spec.num_classes)
        self.double()

    def begin(self, images: Tensor) -> Tensor:
        x = self.stem(images.double() - 0.5)
        if not self.tokens:
            return x
        return torch.cat((self.cls.expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)), dim=1)

    def run_stage(self, i: int, x: Tensor) -> Tensor:
        y = self.blocks[i](x)
        # attention's stand-in: every token sees the mean of all
        return x + y + y.mean(1, keepdim=True) if self.tokens else y

    def to_map(self, i: int, x: Tensor) -> tuple[Tensor, Tensor | None]:
        if not self.tokens:
            return x, None
        p = self.cls.shape[1]
        return x[:, p:].transpose(1, 2).unflatten(2, self.spec.stages[max(i, 0)].grid), x[:, :p]

    def from_map(self, i: int, feature_map: Tensor, prefix: Tensor | None) -> Tensor:
        if not self.tokens:
            return feature_map
        assert prefix is not None
        return torch.cat((prefix, feature_map.flatten(2).transpose(1, 2)), dim=1)

    def finish(self, x: Tensor) -> ModelOutput:
        pooled = x.mean((2, 3)) if not self.tokens else (x[:, 0] if self.cls.shape[1] else x.mean(1))
        return ModelOutput(self.head(pooled), pooled)

    def forward(self, images: Tensor, need: set[str]) -> ModelOutput:
        x, maps = self.begin(images), []
        for i in range(len(self.blocks)):
            x = self.run_stage(i, x)
            maps.append(self.to_map(i, x)[0])
        output = self.finish(x)
        output.stages = tuple(maps)
        return output


def frozen(network: FakeNetwork) -> FakeNetwork:
    return network.eval().requires_grad_(False)


def total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(tuple(losses.values())).sum()


def rotation(width: int, *, seed: int = 0) -> Tensor:
    """A random orthogonal matrix."""
    g = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(width, width, generator=g, dtype=torch.float64))[0]
