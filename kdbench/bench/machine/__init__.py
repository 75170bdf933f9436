"""What this machine gives to a grid, and how fast its runs have been. May import results.

======================  ==============================================================================================
``workers.py``          how many workers there are, and how many threads each of them has
``cards.py``            the memory of GPUs, and which runs have room on one beside each other
``speeds.py``           what finished runs took, by kind
``time_left.py``        the time that is left of a grid, learnt while it runs
======================  ==============================================================================================
"""
