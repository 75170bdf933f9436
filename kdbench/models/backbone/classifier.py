"""Which of a backbone's modules are its classifier."""

from __future__ import annotations

from torch import nn


def classifier_names(backbone: nn.Module) -> list[str]:
    """Module names of the classifier(s): timm's distilled models have two."""
    getter = getattr(backbone, "get_classifier", None)
    if getter is None:
        return []
    found = getter()
    wanted = list(found) if isinstance(found, (tuple, list)) else [found]
    # Sequencer's is its whole head, pooling and all.
    wanted = [m.fc if isinstance(getattr(m, "fc", None), nn.Linear) else m for m in wanted]
    names = {id(module): name for name, module in backbone.named_modules() if name}
    # Without classes, timm's classifier is an identity.
    return [names[id(m)] for m in wanted if id(m) in names and not isinstance(m, nn.Identity)]


def classifier_keys(backbone: nn.Module) -> list[str]:
    """State-dict keys of the classifier(s), for loading a backbone under a head of another width."""
    return [f"{n}.{key}" for n in classifier_names(backbone) for key in backbone.get_submodule(n).state_dict()]
