"""A teacher's outputs, live or stored, and whether it is fit to teach.

Rooms:

- gate: Is a teacher fit to teach? Its accuracy, and what that number hides: one class for every image, NaN, another order
  of classes.
- gate_trials: A teacher that fails: with which statistics, input size and crop would it pass?.
- source: Where a method's teacher outputs come from: the live network, or the cache of what it said before.
- views: One run's use of the teacher cache: in each epoch it reads a view, writes one, or does neither, all processes
  alike.

They may import engine/identity and what stands above it.
"""
