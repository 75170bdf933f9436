"""Weights: read from any file of the field, fitted to a network, published ones, and the file that a run leaves.

Rooms:

- channels: Weights of a network of three channels for one of grey images, and the other way round.
- class_names: The classes that a file of weights knows, by their names, and their order.
- containers: Where the weights lie in what a file holds: containers, moving averages, and the prefixes of wrappers.
- export: The file that a run leaves: a network's weights as safetensors.
- fit: Does a state dict fit a network? Load it if so; if not, say what is wrong and which network it belongs to.
- inert: What a pickle may name besides tensors: numpy's numbers and arrays, and bags of options, rebuilt as data alone.
- load: Weights into a network: published ones or a file's, the statistics of their input and the order of their classes.
- published: Published weights by name: what tells one release of them from another, without fetching or building anything.
- read: Weights on disk: other projects' files and our own, read without executing anything in them.
- recorded: What a training script's options, stored beside the weights, say of the network's input and classes.
- torch_files: Files of ``torch.save``, read without executing anything in them.

They may import networks and names, and what stands below those.
"""
