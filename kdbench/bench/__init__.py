"""Many runs: grids, executors, results, tables, pictures."""
