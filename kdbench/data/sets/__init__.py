"""Data sets, a file each, and what those made of image files share.

Rooms:

- aircraft: FGVC-Aircraft.
- brought: The user's own data: arrays, a list in a file, data sets of other libraries. Nothing in a file is executed.
- builtin: The data sets that always work: scikit-learn's digits, and random images.
- cifar10: CIFAR-10.
- cifar100: CIFAR-100.
- cub200: Caltech-UCSD Birds-200-2011.
- files: Splits whose images lie in files, and what the data sets made of files have in common.
- folder: Any folder of images.
- formats: Formats in which data sets are published, and the order of their classes; nothing in them is executed.
- imagenet: ImageNet-1K.
- mnist: MNIST and its two drop-in replacements: grey images of 28x28 pixels, ten classes, 60,000 + 10,000.
- tiny_imagenet: Tiny-ImageNet.

They may import data/source, data/prefetch and data/augmentation.
"""
