"""Augmentation of whole batches, every draw a function of (seed, epoch, sample).

Rooms:

- augment: Augmentation of whole batches, every parameter drawn per sample.
- colour: Colour jitter on a batch: each sample has its own brightness, contrast and saturation, in its own order.
- crops: Where a training image is cut, and the cut itself: drawn per sample, done for the whole batch.
- decode: From an image file to uint8 pixels of one size: decoding, and the two ways of cutting.
- erase: Random erasing (Zhong et al., AAAI 2020) as in timm: a rectangle of normal noise a sample, after everything else.
- forms: Two forms of an operation: that of a CPU, which looks at what was drawn, and that of a device, which is never
  read.
- looks: Further looks at a training image, beside the one that every method sees.
- mixing: Mixup and cutmix of pairs: positions 2j and 2j + 1 of an epoch's order, with parameters drawn from (seed, epoch,
  j).
- policies: RandAugment (timm's strings) and AutoAugment (torchvision's CIFAR-10 policy).
- resample: Crop and resize every sample of a batch by its own box, as two batched matrix products.
- rows: Some rows of a batch, and pixels as bytes, in the forms that run at the speed of memory.

They may import data/source.
"""
