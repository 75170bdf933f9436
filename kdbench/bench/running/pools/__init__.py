"""What executes the tasks of a grid.

======================  ==============================================================================================
``pool.py``             what a pool of workers must do, and what comes back of a task
``local_pool.py``       the pool of processes of this machine
``cluster_pools.py``    the pools of Ray and of Slurm
======================  ==============================================================================================
"""
