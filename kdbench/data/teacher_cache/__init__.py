"""A teacher's outputs on disk.

Rooms:

- cache: A frozen teacher's outputs on disk, shared by every run that sees the same images.
- view: One view of the teacher cache as a file: a row a draw, logits then penultimate features, and a checksum at the end.

They import nothing else of data.
"""
