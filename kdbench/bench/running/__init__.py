"""Carries a grid's runs out. May import grids, results and machine; no other room of bench imports it.

======================  ==============================================================================================
``run_grid.py``         a grid from its file to its report
``runner.py``           hands out the runs: teachers first, each cell as soon as its teacher is there
``cohorts.py``          which runs are trained together
``run_task.py``         one run, or several together, in a worker: lock, training, record
``pool.py``             what a pool of workers must do, and what comes back of a task
``local_pool.py``       the pool of processes of this machine
``cluster_pools.py``    the pools of Ray and of Slurm
``torchrun.py``         one run over several processes
``small_run.py``        a run of a few steps on random data
``smoke.py``            every cell of a grid as such a small run
``estimate.py``         what each kind of run of a grid will cost, from finished runs or from probes
``forecast.py``         what a whole grid will cost, before it starts, from finished runs
======================  ==============================================================================================
"""
