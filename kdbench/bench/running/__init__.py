"""Carries a grid's runs out. May import grids, results and machine; no other room of bench imports it.

======================  ==============================================================================================
``run_grid.py``         a grid from its file to its report
``runner.py``           hands out the runs: teachers first, each cell as soon as its teacher is there
``cohorts.py``          which runs are trained together
``sweep/``              tunes methods by trials, before the cells are run
``run_task.py``         one run, or several together, in a worker: lock, training, record
``pools/``              what executes tasks: processes of this machine, Ray, Slurm
``torchrun.py``         one run over several processes
``small_run.py``        a run of a few steps on random data
``smoke.py``            every cell of a grid as such a small run
``estimate.py``         what each kind of run of a grid will cost, from finished runs or from probes
``litter.py``           what could go of a folder
``forecast.py``         what a whole grid will cost, before it starts, from finished runs
======================  ==============================================================================================
"""
