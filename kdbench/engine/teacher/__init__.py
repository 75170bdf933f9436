"""A teacher's outputs, live or stored, and whether it is fit to teach.

Rooms:

- arrivals: Tensors on their way from a GPU to the host, who looks at them when they are there.
- classifier: A teacher's linear classifier beside its cached outputs, so that a run that reads them needs no network.
- gate: Is a teacher fit to teach? Its accuracy, and what that number hides: one class for every image, NaN, another order
  of classes.
- gate_trials: A teacher that fails: with which statistics, input size and crop would it pass?.
- outputs: What a method is given of its teacher: one object with one method, whether the outputs are computed, stored or
  shared.
- source: Where a method's teacher outputs come from: the live network, or the cache of what it said before.
- trained: What a method has trained on a teacher alone, on disk.
- several: Several teachers of one student as one: each keeps its own network, gate and cache, and a method is given all
  their outputs.
- views: One run's use of the teacher cache: in each epoch it reads a view, writes one, or does neither, all processes
  alike.

They may import engine/identity and what stands above it.
"""
