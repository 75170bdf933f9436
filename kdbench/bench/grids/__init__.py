"""What a grid file asks for, and the state of its runs on disk. Imports no other room of bench.

==========================  ==========================================================================================
``find.py``                 where a grid's file and folder are
``grid.py``                 a grid whose every cell is resolved
``grid_file.py``            reads a grid file and resolves every cell to a configuration
``grid_file_checks.py``     refuses what a grid file may not hold, one line a mistake
``idle_keys.py``            names the keys of a grid file that act on none of its runs
``tasks.py``                the runs that a grid needs, each with the key that names it
``asked.py``                what a cell or task asks for, held against what a run says of itself
``owner.py``                which process owns a lock, and whether it lives
``lock.py``                 the lock of a run, so that one process does it
``state.py``                what became of each run: ``.state/``
``grid_record.py``          ``grid.json``: rows and columns of the tables, and the runs of their cells
``status.py``               where a grid stands, counted from its folder
==========================  ==========================================================================================
"""
