"""Many runs: what is to be run, running it, and what the results say.

=================  ===================================================================================================
``grids``          what a grid file asks for, and the state of its runs on disk
``running``        carries a grid's runs out: here, on Ray, on Slurm; estimates and tries them out before
``machine``        what this machine gives to a grid: workers, memory of its GPUs, speeds of its finished runs
``results``        finished runs as tables of data, with labels, recipes and names
``comparison``     own runs beside each other: cells, paired gains, tables, statistics
``paper``          the published tables, filled with published and own figures
``pictures``       comparisons and published tables, drawn
``one_run``        what the student of a run says of each test image
``deployment``     a run's student as a file for other runtimes, checked there; milliseconds of a network
``methods``        what every method must do on every pair of families, and the cards that say so
``speed``          what a step, a loss, the cache cost, as ratios against something in the same process
=================  ===================================================================================================

Each room may import those before it: grids <- results <- comparison <- paper <- pictures. ``machine`` stands above ``results``, and
``running`` above ``grids``, ``results`` and ``machine`` alone; ``one_run``, ``deployment``, ``methods`` and ``speed`` import none
of the others and not each other, and nothing imports these five.
Grids, results, comparison, paper and pictures do not import torch;
``tests/bench/test_rooms.py`` holds all of this.
"""
