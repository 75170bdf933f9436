"""What :mod:`kdbench.bench.grids.grid_file` needs to read a grid file.

=================  ===================================================================================================
``checks.py``      refuses what a grid file may not hold, one line a mistake
``keys.py``        every key, what it expects, what it means
``published.py``   known answers of a pair, for ``kdbench reproduce``
``idle_keys.py``   names the keys of a grid file that act on none of its runs
``sweep.py``       the section ``SWEEP``: which methods are tuned, and over what
``space.py``       a method's space of values: lists and ranges, and what in it acts on nothing
=================  ===================================================================================================
"""
