"""Own runs beside each other. May import results.

===================  =================================================================================================
``cell.py``          accuracies of one method on one pair, which seeds may be paired, what is gained over another cell
``table.py``         cells in rows and columns, as Markdown and as a frame
``render.py``        a table in every format: Markdown, CSV, LaTeX, HTML, and for a terminal
``statistics.py``    intervals, ranks and tests
``report.py``        the statistics of a table as Markdown
``seeds.py``         cells of many seeds against the student alone, with a test of each
``frontier.py``      what no other one beats in both cost and accuracy
``study/``           what a comparison with many seeds says, as sections of a page
===================  =================================================================================================
"""
