"""What has to be equal on a GPU.

================  ====================================================================================================
``runs.py``       a few steps of any method on tiny networks, and all that they changed
``steps.py``      captured steps against single ones, and the GPU against the CPU
``repeats.py``    a run, the same again, and one that was interrupted and resumed
``group.py``      steps of a process group of one: DDP over NCCL
================  ====================================================================================================
"""
