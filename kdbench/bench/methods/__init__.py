"""What every method must do. Imports no other room of bench.

====================  ================================================================================================
``conformance.py``    the checks of a method on a pair of families
``device.py``         the checks of a method on a GPU, made on fake tensors
``replay.py``         what a captured step needs of a method
``parts.py``          whether a loss is the mean of those of a batch's parts
``extreme.py``        steps with huge logits, zeros, equal samples, half precision, the smallest batch, two classes
``keys.py``           the reference of a configuration's keys
``cards.py``          a page a method, with what it costs and where it runs
====================  ================================================================================================
"""
