"""FeatureModel: a backbone with one face, and what is found out of it.

Rooms:

- adapted: A backbone whose last map passes an adapter before it is pooled and classified, for methods that deploy such a student.
- flops: Floating-point operations of a forward pass, counted on the meta device.
- freezing: A FeatureModel whose classifier alone is trained.
- head: How a network's head reads its last features, found out by values.
- known_pieces: Which networks have known pieces: this project's own, and timm's plain sequences of blocks or stages.
- model: FeatureModel: one face for every architecture.
- pieces: A network as a sequence: stem, units, tail. What runs it stage by stage, or reads maps on the way.
- pre_activation: Maps in front of the last activation of the stages of timm's ResNets and MobileNetV1s.
- regions: The classifier at places and regions of the last features: class activation maps, pooled regions, region logits.
- shapes: Shapes of a network without running it: the meta device answers wherever it can.
- stage_choice: Which of a network's maps are its stages.
- stagewise: Running a FeatureModel stage by stage, for methods that work inside the networks.

They may import models/spec and models/backbone.
"""
