"""Own runs beside each other. May import results.

===================  =================================================================================================
``cell.py``          accuracies of one method on one pair, which seeds may be paired, what is gained over another cell
``table.py``         cells in rows and columns, as Markdown and as a frame
``render.py``        a table in every format: Markdown, CSV, LaTeX, HTML, and for a terminal
``statistics.py``    intervals, ranks and tests
``report.py``        the statistics of a table as Markdown
===================  =================================================================================================
"""
