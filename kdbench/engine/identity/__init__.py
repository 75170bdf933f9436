"""What a run is, and what it was made from.

Rooms:

- canonical: One spelling for settings that mean the same: a value that is written out and the default that stands for it
  are one run.
- code: The code behind a run: what the user brought is part of what the run is, kdbench's own part of its record.
- inputs: What a run was made from, as ``inputs.json`` in its folder: what has changed since is said, and other images are
  refused.
- name: What a run is: the weights that it starts from, and the hash of all that it depends on.
- stored_options: What the file of a network's weights says of its input, taken where the configuration leaves it open.
- teacher_records: What is remembered of teachers beside their cached outputs: accuracies, and hashes of files that may be
  gone one day.

They may import what stands above identity in engine.
"""
