"""Networks by where they come from.

Rooms:

- cifar: mdistiller's networks for 32x32 images, with the layout of its checkpoints.
- mobilenetv1: MobileNetV1 as mdistiller has it for ImageNet: ReLU in the place of timm's ReLU6, and the layout of its
  published checkpoints.
- mobilenetv2_tiny: MobileNetV2 as mdistiller has it for the 64x64 images of Tiny-ImageNet: full width, with a stem that
  keeps the grid.
- paper_names: The names that papers give to the networks of the tables, each with the timm tag behind it; importing this is
  cheap.
- paper_networks: The networks of the tables, built by the names that papers give them.
- small: Small networks for 8x8 to 32x32 images: a ViT and a Mixer from timm's classes, and a CNN.
- timm_encoders: timm's vision encoders of language models (``*_enc``), which have no classifier, with one.
- timm_networks: Any timm model as ``timm:<name>``, its published weights and its input statistics.
- torchvision_networks: ``torchvision:<name>``: torchvision's classifiers with timm's feature interface, by tracing them
  once.

They may import models/spec, models/registry and models/backbone.
"""
