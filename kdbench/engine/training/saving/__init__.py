"""What is kept of a student in training, and when.

Rooms:

- checkpoint: The state from which a killed run goes on.
- state: What a checkpoint holds of a student in training, between epochs and within one; saved, and put back.
- selection: What the validation part decides: when a run stops, and which epoch's weights it leaves.
- lines: The lines of a run, one for each evaluation: scored, written, told.
- moments: When a run is saved within an epoch, and when it stops: decided after each step, by all processes alike.

They may import what training may.
"""
