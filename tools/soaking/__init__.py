"""Random accidents against kdbench's commands, see ``tools/soak.py``.

Files:

- child: Commands in processes of their own, which may be killed, hang or crash.
- verdict: What became of one accident.
- place: Folders of cases, and what the same commands leave undisturbed.
- kinds: The kinds of accidents: how much of the time each has.
- conduct: Time, processes, and the table.
- damage: Random accidents of one file.

One file a kind:

- kills: SIGKILL at random moments of a run, over all methods.
- crash_points: SIGKILL at named points of a run's work with files.
- signals: SIGTERM, SIGUSR1 and SIGHUP to runs and grids.
- states: Damaged files that kdbench reads back.
- weights: Hostile and damaged files of weights.
- images: Every byte of a small PNG, JPEG and WebP.
- yaml_files: Bombs, and damaged configurations.
- labels: Names and labels that mean something to a format.
- disk: Full disks, outputs that cannot be written.
- writers: Several processes at one run.
- ranks: A run of two processes of which one is killed or frozen.

What tests have of the same is theirs: ``tests/`` is on the path.
"""
