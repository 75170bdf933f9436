"""The training loop and its parts.

Rooms:

- average: A moving average of the student's weights, which is evaluated and exported in their place.
- board: TensorBoard's event files of a run.
- checkpoint: The state from which a killed run goes on.
- finite: Numbers that are not finite: noticed on the device, named with their cause, and never exported.
- optim: Optimiser and learning-rate schedule, both timm's.
- single: Batches of one sample: whether student and method can train on them is found out before a folder exists.
- trainer: The one training loop.

They may import engine/teacher and what stands above it.
"""
