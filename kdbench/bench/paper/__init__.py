"""The published tables, filled with published and own figures. May import comparison, results and grids.

===================  =================================================================================================
``published.py``     every published figure, from ``published.csv``
``layouts.py``       rows and columns of the tables as they were printed
``declared.py``      the recipes that grid files declare for the cells
``own_runs.py``      own results by cell
``cell.py``          one cell: published, own, and their difference
``table.py``         a table with all of these in it, its footnotes and remarks
``render.py``        a table as Markdown, CSV or LaTeX
``known_answers.py`` figures that a grid file cites, beside its runs, with a verdict on each
===================  =================================================================================================
"""
