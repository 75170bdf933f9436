"""What a bare network is and does, whoever wrote it.

Rooms:

- channels: How many channels a network's input has: three, or one of a network for grey images.
- classifier: Which of a backbone's modules are its classifier.
- evaluating: A network in evaluation mode for a while, and a pass on the meta device, on which nothing is computed.
- intermediates: timm's ``forward_intermediates`` for every class, whether its tensors hold values or not.
- pooling: Average pooling to a given size whose gradient is the same at every run, on GPUs too.
- staged: Base of this project's own networks: timm's feature interface from a handful of hooks.
- tensor_layout: Maps and token sequences: the same features laid out as (B, C, H, W), (B, H, W, C) or (B, P + H W, C).
- transparent: A module in another module's clothes: same parameters under the same names, other methods.

Of kdbench they import errors alone, and each other.
"""
