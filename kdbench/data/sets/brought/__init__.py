"""The user's own data: arrays, a list in a file, data sets of other libraries. Nothing in a file is executed.

Rooms:

- pixels: Images of any library as uint8 pixels, and what is known of a data set from its pixels.
- arrays: NumPy arrays, from Python or from an .npz file.
- csv_list: A list of image files and labels, as CSV.
- items: A data set that is read item by item: a torch ``Dataset``, or whatever looks like one.
- saved_datasets: A folder of Hugging Face's ``datasets``.
- given: Data sets that are handed over as objects.

They may import data/source, data/sets and data/augmentation.
"""
