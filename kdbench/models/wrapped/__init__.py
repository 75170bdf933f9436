"""Any module as a FeatureModel, by hooks; the network is not changed.

Rooms:

- hooked: A network behind timm's feature interface, with hooks that read its maps.
- probe: One pass over a network that notes what each of its submodules gives: its stages and its classifier are found in it.
- wrap: ``kdbench.wrap_model``, and what a registered builder returned as a network behind one face.

They may import models/spec, models/backbone, models/registry and models/feature_model.
"""
