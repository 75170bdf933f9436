"""What is kept of a student in training, and when.

Rooms:

- checkpoint: The state from which a killed run goes on.
- state: What a checkpoint holds of a student in training, between epochs and within one; saved, and put back.
- moments: When a run is saved within an epoch, and when it stops: decided after each step, by all processes alike.

They may import what training may.
"""
