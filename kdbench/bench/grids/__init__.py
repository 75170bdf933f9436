"""What a grid file asks for, and the state of its runs on disk. Imports no other room of bench.

==========================  ==========================================================================================
``find.py``                 where a grid's file and folder are
``grid.py``                 a grid whose every cell is resolved
``grid_file.py``            reads a grid file and resolves every cell to a configuration
``reading/``                what a grid file may hold: checks, idle keys, the section ``SWEEP``
``tasks.py``                the runs that a grid needs, each with the key that names it
``asked.py``                what a cell or task asks for, held against what a run says of itself
``owner.py``                which process owns a lock, and whether it lives
``lock.py``                 the lock of a run, so that one process does it
``state.py``                what became of each run: ``.state/``
``grid_record.py``          ``grid.json``: rows and columns of the tables, and the runs of their cells
``trials.py``               what that says of trials, of a grid that tunes its methods
``status.py``               where a grid stands, counted from its folder
==========================  ==========================================================================================
"""
