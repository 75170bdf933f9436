"""The zoo: networks of every kind behind one face, FeatureModel, and their weights.

Rooms:

- spec: What a method may know of a network: its spec, and the outputs of one forward pass.
- registry: The registry of models: names to builders.
- backbone: What a bare network is and does, whoever wrote it.
- feature_model: FeatureModel: a backbone with one face, and what is found out of it.
- networks: Networks by where they come from.
- names: Names of networks: the built-in ones, timm's and torchvision's, and what each stands for.
- weights: Weights: read from any file of the field, fitted to a network, published ones, and the file that a run leaves.
- zoo: ``create_model``: a name, weights and statistics to a network.
- describe: Networks in figures, from their specs: what ``kdbench list models`` shows and the catalogue keeps.

Each may import those above it, but feature_model and networks not each other, and weights not feature_model. Nothing here
knows data or distillation.
"""
