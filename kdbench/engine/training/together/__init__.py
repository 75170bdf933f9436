"""What students that are trained together share besides their batches: memory and time.

Rooms:

- room: How many students fit beside each other: measured at each one's first step.
- clock: How long an epoch takes: all of it, and what of it each student would take alone.

They may import what training may.
"""
