"""Carries a grid's runs out. May import grids and results; no other room of bench imports it.

======================  ==============================================================================================
``run_grid.py``         hands out the runs of a grid: teachers first, each cell as soon as its teacher is there
``cohorts.py``          which runs are trained together
``run_task.py``         one run, or several together, in a worker: lock, training, record
``pool.py``             what a pool of workers must do, and what comes back of a task
``local_pool.py``       the pool of processes of this machine
``cluster_pools.py``    the pools of Ray and of Slurm
``torchrun.py``         one run over several processes
``small_run.py``        a run of a few steps on random data
``smoke.py``            every cell of a grid as such a small run
``estimate.py``         what a grid will cost in seconds and bytes
======================  ==============================================================================================
"""
