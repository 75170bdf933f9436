"""One run, from a configuration to a folder.

Rooms:

- run_folder: A run is a folder, and its name is its configuration.
- runtime: Where a run computes: device, threads, processes.
- precision: Number formats of a network's arithmetic: float32, TF32, bfloat16, float16.
- result: The outcome of a run: ``result.json``, its fields and its one reader. Nothing here imports torch.
- evaluation: Accuracy of a network on a split.
- parts: From a configuration to the parts of a run: student, teacher, method. Everything here fails before a folder exists.
- identity: What a run is, and what it was made from.
- teacher: A teacher's outputs, live or stored, and whether it is fit to teach.
- training: The training loop and its parts.
- session: One process's work: from configurations to finished runs, alone or several on one teacher.
- run: ``train`` and ``evaluate``: one run from a configuration to a folder.
- train_teacher: Making a teacher: the teacher of a configuration, trained on the data set before anything learns from it.

Each may import those above it.
"""
