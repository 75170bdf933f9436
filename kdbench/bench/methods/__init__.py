"""What every method must do. Imports no other room of bench.

====================  ================================================================================================
``conformance.py``    the checks of a method on a pair of families
``cards.py``          a page a method, with what it costs and where it runs
====================  ================================================================================================
"""
