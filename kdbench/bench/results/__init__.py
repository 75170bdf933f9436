"""Finished runs as tables of data. May import grids.

======================  ==============================================================================================
``run_files.py``        lines of ``metrics.jsonl`` and ``timing.jsonl``; the means of a run's timings
``frames.py``           run folders as DataFrames: a row a run, or a row an epoch
``loaded.py``           the same for users: with the labels of their grids and the values that tell them apart
``shown.py``            all that one run's folder says of it, as ``kdbench show`` prints it
``select.py``           which of a run's accuracies a table shows, and the words for it
``labels.py``           which row and column of a comparison a run belongs to
``recipe.py``           how a run was trained, key by key, so that two runs can be compared
``rows_file.py``        the rows behind a table as one CSV file, which stands in for the folder
``recorded.py``         whether the run that a grid's state names is that of a task
``environments.py``     what is said of runs that were not made in one environment
``tuning.py``           what is said of methods that were tuned, and which runs are trials
``display_names.py``    the names that published tables give to methods, data sets and networks
======================  ==============================================================================================
"""
