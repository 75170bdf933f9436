"""What executes the tasks of a grid.

======================  ==============================================================================================
``pool.py``             what a pool of workers must do, and what comes back of a task
``local_pool.py``       the pool of processes of this machine
``main_guard.py``       refuses a script whose import would start a grid
``cluster_pools.py``    the pools of Ray and of Slurm
======================  ==============================================================================================
"""
