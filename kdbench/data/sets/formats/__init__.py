"""Formats in which data sets are published: found, fetched, checked, and read without executing anything.

Rooms:

- cifar_files: The python version of the CIFAR archives.
- idx_files: The four IDX files of MNIST and of those made in its image.

They may import data/source.
"""
