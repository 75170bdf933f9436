"""Formats in which data sets are published, and the order of their classes; nothing in them is executed.

Rooms:

- cifar_files: The python version of the CIFAR archives.
- class_order: The order of a folder's classes: torchvision sorts by code point, timm naturally (``class2`` before ``class10``).
- fetched_folder: A folder from an archive on the network: it is there as a whole, or not at all.
- idx_files: The four IDX files of MNIST and of those made in its image.

They may import data/source.
"""
