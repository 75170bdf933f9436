"""The zoo: networks of every kind behind one face, FeatureModel, and their weights.

Rooms:

- stage_names: Choices of stages that mean the same; importing this is cheap.
- spec: What a method may know of a network: its spec, and the outputs of one forward pass.
- registry: The registry of models: names to builders.
- backbone: What a bare network is and does, whoever wrote it.
- feature_model: FeatureModel: a backbone with one face, and what is found out of it.
- wrapped: Any module as a FeatureModel, by hooks; the network is not changed.
- networks: Networks by where they come from.
- names: Names of networks: the built-in ones, timm's and torchvision's, and what each stands for.
- weights: Weights: read from any file of the field, fitted to a network, published ones, and the file that a run leaves.
- zoo: ``create_model``: a name, weights and statistics to a network.
- describe: Networks in figures, by building each on the meta device: rows for ``kdbench/catalogue.py``, which answers
  without that.

Each may import those above it, but feature_model and networks not each other, and weights and networks neither feature_model nor
wrapped. Nothing here
knows data or distillation.
"""
