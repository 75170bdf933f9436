"""One process's work: from configurations to finished runs, alone or several on one teacher.

Rooms:

- telling: Who is told of each run: the trackers of its configuration, and the caller's callbacks.
- agreement: Several processes of one run: whether all were given the same work, before they begin it.
- announce: What a run is about to do, in one paragraph, before its first step.
- parts: ``SOLVER.ACCUMULATE``: whether a run can be trained on parts of its batches.
- single: Batches of one sample: whether student and method can train on them is found out before a folder exists.
- terms: ``SOLVER.TRAINER: dot``: whether a method's loss has a part of the task and one that distils.
- locate: A run's folder and identity, and whether the run is done.
- holding: One process at a run: a lock on its folder, and what killed processes left there.
- prepare: From a configuration to what is trained; whatever is wrong is found here, before a folder exists.
- finish: The exported student and ``result.json``.
- handed: Networks and data that are handed over as objects: a run has them by names that say what is in them.
- cohort: Runs that share data, order, augmentation and teacher, trained in one process.

Each may import those above it.
"""
