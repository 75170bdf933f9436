"""RandAugment (timm's strings) and AutoAugment (torchvision's CIFAR-10 policy) on whole batches.

Rooms:

- ops: RandAugment's and AutoAugment's image operations on a group of images, each image with its own argument.
- policy: RandAugment (timm's strings) and AutoAugment (torchvision's CIFAR-10 policy): what each sample drew.
- policy_plan: What a policy does with one batch: planned by the host, then done for groups of samples that drew the same
  operation.

They may import data/augmentation/forms and rows.
"""
