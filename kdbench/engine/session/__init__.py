"""One process's work: from configurations to finished runs, alone or several on one teacher.

Rooms:

- telling: Who is told of each run: the trackers of its configuration, and the caller's callbacks.
- agreement: Several processes of one run: whether all were given the same work, before they begin it.
- announce: What a run is about to do, in one paragraph, before its first step.
- adapted: The student as its method deploys it.
- checked: What a run cannot do is found out before a folder exists.
- locate: A run's folder and identity, and whether the run is done.
- holding: One process at a run: a lock on its folder, and what killed processes left there.
- pretrain: What a method trains on its teacher alone, before the first step: found in the teacher cache's folder, or trained.
- prepare: From a configuration to what is trained; whatever is wrong is found here, before a folder exists.
- finish: The exported student and ``result.json``.
- handed: Networks and data that are handed over as objects: a run has them by names that say what is in them.
- cohort: Runs that share data, order, augmentation and teacher, trained in one process.

Each may import those above it.
"""
