"""What a run cannot do is found out before a folder exists.

Rooms:

- parts: ``SOLVER.ACCUMULATE``: whether a run can be trained on parts of its batches.
- phases: What a method trains before the first epoch: whether this run can do so.
- single: Batches of one sample: whether student and method can train on them is found out before a folder exists.
- task_loss: ``SOLVER.TASK_LOSS: bce``: whether a method's loss follows it.
- terms: ``SOLVER.TRAINER: dot``: whether a method's loss has a part of the task and one that distils.

Each may import those above it.
"""
