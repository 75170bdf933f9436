"""Tunes a grid's methods before its cells are run. Optuna is imported when a grid is tuned.

=================  ===================================================================================================
``studies.py``     Optuna's studies of a grid: what a trial tries, and what came of it
``contest.py``     one method on one pair: its trials, their scores, and the choice
``tune.py``        round by round: ask, run, tell; then the cells with the values that were chosen
``planned.py``     runs of trials and tuned cells before their values are known, for forecasts
=================  ===================================================================================================
"""
