"""The training loop and its parts.

Rooms:

- captured: Steps from CUDA graphs: which can be, and what stands in for the numbers of Python that a graph would freeze.
- finite: Numbers that are not finite: named with their cause, skipped where that is wanted, and never evaluated, saved or exported.
- graphs: Work that is recorded once and replayed: CUDA graphs over inputs at fixed addresses.
- ledger: The sums of an epoch's loss terms, and its first step with a term that is not finite; both are kept on the device.
- loop: The one training loop: batches and the teacher's outputs, made once for all students that learn from them.
- optimiser: How parameters are updated, and at which rate.
- phases: What takes a student's steps in its first phase and after it: an optimiser, a schedule, a ledger and a step of each.
- saving: What is kept of a student in training, and when.
- step: One step of one student: forward, backward, update. Nothing of it is read by the host but on a CPU.
- together: What students that are trained together share besides their batches: memory and time.
- tracking: Who is told how a run goes: callbacks of the user's, and trackers by name.
- trainer: One student in training: its parts, its steps, its evaluations, its files.

They may import engine/teacher and what stands above it.
"""
