"""Verbs of the command: they parse, call and print. Nothing else imports them.

Rooms:

- cache: ``kdbench cache``.
- clean: ``kdbench clean``.
- completion: ``kdbench completion``.
- dry_run: ``kdbench grid --dry-run``: the cells of a grid, what they cost, and their configurations.
- evaluate: ``kdbench eval``.
- export: ``kdbench export``: the student of a run as a file for other runtimes.
- grid: ``kdbench grid``.
- init: ``kdbench init``.
- latency: ``kdbench latency``: what networks of the zoo cost.
- listing: ``kdbench list``.
- report: ``kdbench report``.
- reproduce: ``kdbench reproduce``: a grid's runs beside the figures that it cites.
- show: ``kdbench show``: what a run's folder says of it.
- live: A grid while it runs, on a terminal: how much is done, what runs, the means so far.
- main: ``kdbench VERB ...``: parse, call, print. Nothing heavy is imported until a verb needs it.
- new_method: ``kdbench new-method``.
- options: ``--cfg FILE``, the shorthands, and the tail of overrides, as in mdistiller.
- unexpected: The last resort: an error that is nobody's mistake in one line, its traceback in a file.
- progress: Progress bars, on a terminal only.
- study: ``kdbench study``: what many seeds say of a comparison.
- table: ``kdbench table``.
- teacher: ``kdbench teacher``.
- train: ``kdbench train``.

Heavy modules are imported inside functions.
"""
