"""Data sets, their replayable augmentation, and what a teacher said of them.

Rooms:

- source: What a data set is: two splits of images and labels, and what is known of them.
- order: Which images an epoch has and in which order, which of them make a step, and which of those a process gets.
- prefetch: Work done ahead of its consumer, in threads; results come in the order of the work.
- malloc: The C library's allocator, told to keep what it has.
- augmentation: Augmentation of whole batches, every draw a function of (seed, epoch, sample).
- build: From a configuration to a data set.
- sets: Data sets, a file each, and what those made of image files share.
- teacher_cache: A teacher's outputs on disk.
- resident: A data set in memory that lives on a GPU: copied there once, for all who load from it.
- loader: The order of samples, and batches of augmented images.

Each may import those above it. Nothing here knows networks or distillation.
"""
