"""Files to begin with: a comparison of one's own (``kdbench init``), a method of one's own (``kdbench new-method``).

Rooms:

- files: New files, all of them or none, never over others; the templates.
- project: A folder with configurations, a grid and a method.
- method: A method, its test and its card.

Each may import those above it.
"""
