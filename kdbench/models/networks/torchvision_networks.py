"""``torchvision:<name>``: torchvision's classifiers with timm's feature interface, by tracing them once."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from kdbench.errors import ModelError, UnknownNameError, did_you_mean
from kdbench.models.backbone.transparent import TransparentWrapper
from kdbench.models.registry import ModelEntry
from kdbench.models.spec import Statistics

#: attributes that hold the stages of known designs, and the module whose output the head reads
_DESIGNS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("layer1", "layer2", "layer3", "layer4"), "layer4"),
    (("stage2", "stage3", "stage4"), "conv5"),
)
#: containers whose children are searched: the last one at each resolution is a stage
_TRUNKS = ("trunk_output", "features", "layers")
_SMALLEST_REDUCTION = 4
_TRANSFORMERS = ("vit_", "swin_", "maxvit")


def torchvision_entry(name: str) -> ModelEntry:
    """The entry for a torchvision classifier.

    Raises:
        UnknownNameError: torchvision has no such classifier; the message names the nearest.
    """
    import torchvision.models as zoo

    known = zoo.list_models(module=zoo)
    if name not in known:
        near = did_you_mean(name, known) or "; torchvision.models.list_models() shows them all"
        raise UnknownNameError(f"unknown model 'torchvision:{name}'{near}")
    fixed = name.startswith(("vit_", "maxvit"))
    return ModelEntry(
        name=f"torchvision:{name}",
        build=functools.partial(build_torchvision, name),
        family="vit" if name.startswith(_TRANSFORMERS) else "cnn",
        input_size=224,
        any_size=not fixed,
        size_option="image_size" if name.startswith("vit_") else "input_size" if fixed else "",
        tag=f"torchvision {name}",
    )


def list_torchvision(pattern: str = "*") -> list[str]:
    """``torchvision:<name>`` for the names that fit a wildcard."""
    import torchvision.models as zoo

    return [f"torchvision:{name}" for name in zoo.list_models(module=zoo, include=pattern or "*")]


def build_torchvision(name: str, *, num_classes: int, **options: Any) -> nn.Module:
    """torchvision's network with the feature interface; its state dict has torchvision's keys.

    Raises:
        ModelError: its forward pass cannot be traced, or gives more than logits.
    """
    import torchvision.models as zoo

    if name in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "init_weights": True, **options}
    return TracedBackbone(zoo.get_model(name, weights=None, num_classes=num_classes, **options), name, num_classes)


def load_torchvision(backbone: TracedBackbone, name: str, num_classes: int) -> tuple[Statistics, bool]:
    """Load the published weights; returns the statistics of their input, and whether the classifier was left out.

    Raises:
        ModelError: they cannot be fetched.
    """
    import torchvision.models as zoo

    weights: Any = zoo.get_model_weights(name).DEFAULT
    try:
        state = weights.get_state_dict(progress=False)
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ModelError(
            f"the published weights of torchvision:{name} cannot be fetched ({reason}); download them and name the file"
        ) from None
    own = backbone.state_dict()
    keys = [f"{backbone.classifier_name}.{part}" for part in ("weight", "bias")]
    fresh = any(state[key].shape != own[key].shape for key in keys if key in state)
    own.update({key: value for key, value in state.items() if key in own and not (fresh and key in keys)})
    backbone.load_state_dict(own)
    transform = weights.transforms()
    return (tuple(transform.mean), tuple(transform.std)), fresh


class TracedBackbone(TransparentWrapper):
    """A network cut in two at the map that its head reads; stages are read from the first part.

    Args:
        network: maps (B, 3, H, W) to (B, K) and ends in a linear layer.
        name: for messages.
        num_classes: K.
    """

    def __init__(self, network: nn.Module, name: str, num_classes: int) -> None:
        super().__init__(network)
        linear = [n for n, m in network.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
        if not linear or not isinstance(network.get_submodule(linear[-1]), nn.Linear):
            raise ModelError(f"torchvision:{name} does not end in a linear layer; timm may have it")
        self.classifier_name = linear[-1]
        graph, names = _trace(network, name)
        shapes = _shapes(network, graph)
        stages, last = _find_stages(network, names, shapes)
        before: Any = next(n for n, path in names.items() if path == self.classifier_name).args[0]
        nodes = [_last_node(names, stage) for stage in stages]
        cut = _last_node(names, last) if last else before
        self.feature_info = [
            {"num_chs": shapes[node][1], "reduction": 224 // shapes[node][2], "module": stage}
            for node, stage in zip(nodes, stages)
        ]
        output: Any = next(n for n in graph.nodes if n.op == "output").args[0]
        # Tuples: the parts share their modules with the network and must not be registered a second time.
        self._plain = (_part(network, graph, None, [cut]),)
        self._staged = (_part(network, graph, None, [cut, *nodes]),)
        self._pooled = (_part(network, graph, cut, [before]),)
        self._head = (_part(network, graph, cut, [output]),)
        self.num_classes = num_classes

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, K)."""
        return self.network(x)

    def forward_features(self, x: Tensor) -> Tensor:
        """The map that the head reads."""
        return self._plain[0](x)[0]

    def forward_intermediates(self, x: Tensor, indices: Sequence[int] | None = None) -> tuple[Tensor, list[Tensor]]:
        """``(features, [maps of the stages in indices])``."""
        features, *maps = self._staged[0](x)
        return features, [m for i, m in enumerate(maps) if indices is None or i in indices]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """The rest of the network: to the classifier's input (B, D), or to (B, K)."""
        return (self._pooled if pre_logits else self._head)[0](x)[0]

    def get_classifier(self) -> nn.Module:
        """The last linear layer."""
        return self.get_submodule(self.classifier_name)


def _trace(network: nn.Module, name: str) -> tuple[fx.Graph, dict[fx.Node, str]]:
    from torchvision import ops
    from torchvision.models.feature_extraction import NodePathTracer

    leaves = [c for c in vars(ops).values() if isinstance(c, type) and issubclass(c, nn.Module)]
    tracer = NodePathTracer(autowrap_modules=(math, ops), leaf_modules=leaves)
    try:
        graph = tracer.trace(network)
    except (fx.proxy.TraceError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ModelError(f"torchvision:{name} cannot be traced ({reason}); timm may have it") from None
    return graph, dict(tracer.node_to_qualname)


class _Shapes(fx.Interpreter):
    """Runs a graph and keeps the shape of every tensor."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.found: dict[str, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.found[n.name] = tuple(result.shape)
        return result


def _shapes(network: nn.Module, graph: fx.Graph) -> dict[fx.Node, tuple[int, ...]]:
    from torch.func import functional_call

    runner = _Shapes(fx.GraphModule(network, graph))

    class _Run(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = runner.module

        def forward(self, x: Tensor) -> Any:
            return runner.run(x)

    run = _Run().eval()
    twins = {k: torch.empty_like(v, device="meta") for k, v in [*run.named_parameters(), *run.named_buffers()]}
    with torch.no_grad():
        functional_call(run, twins, (torch.empty(2, 3, 224, 224, device="meta"),), tie_weights=False)
    run.train(network.training)
    return {node: runner.found[node.name] for node in graph.nodes if node.name in runner.found}


def _last_node(names: dict[fx.Node, str], module: str) -> fx.Node:
    """The last node within a module."""
    return [node for node, path in names.items() if path == module or path.startswith(f"{module}.")][-1]


def _find_stages(
    network: nn.Module, names: dict[fx.Node, str], shapes: dict[fx.Node, tuple[int, ...]]
) -> tuple[list[str], str]:
    """Names of the stages, shallow to deep, and of the module whose map the head reads; nothing where no map is."""
    for stages, last in _DESIGNS:
        if all(hasattr(network, attribute) for attribute in (*stages, last)):
            return list(stages), last
    trunk = next((t for t in _TRUNKS if isinstance(getattr(network, t, None), nn.Sequential)), None)
    if trunk is None:
        return [], ""
    by_side: dict[int, str] = {}
    for child, _ in network.get_submodule(trunk).named_children():
        shape = shapes[_last_node(names, f"{trunk}.{child}")]
        if len(shape) == 4 and shape[2] == shape[3] and 224 // shape[2] >= _SMALLEST_REDUCTION:
            by_side[shape[2]] = f"{trunk}.{child}"
    return list(by_side.values()), trunk if by_side else ""


def _part(network: nn.Module, graph: fx.Graph, start: fx.Node | None, ends: list[fx.Node]) -> fx.GraphModule:
    """The nodes between ``start`` (the input by default) and ``ends`` as a module that shares the network's modules."""
    part, known = fx.Graph(), {}
    for node in graph.nodes:
        if node is start or (start is None and node.op == "placeholder"):
            known[node] = part.placeholder("x")
        elif node.op not in ("placeholder", "output") and all(n in known for n in node.all_input_nodes):
            known[node] = part.node_copy(node, known.__getitem__)
            if known[node].op == "call_function" and known[node].kwargs.get("inplace"):
                # DenseNet's last activation would overwrite the map that was given out.
                known[node].kwargs = {**known[node].kwargs, "inplace": False}
    part.output(tuple(known[end] for end in ends))
    module = fx.GraphModule(network, part)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module
