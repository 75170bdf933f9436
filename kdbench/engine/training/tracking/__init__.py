"""Who is told how a run goes: callbacks of the user's, and trackers by name.

Rooms:

- tracker: What a tracker may be told, and the registry of those that have names.
- several: All trackers of one run, none of which can end it.
- choose: Those that a configuration names, looked for before anything is trained.
- csv_file: ``metrics.csv`` in the run's folder.
- tensorboard_events: TensorBoard's event files.
- wandb_run: A run of Weights & Biases.
- mlflow_run: A run of MLflow.

They know a run's lines and results, and nothing of how it is trained.
"""
