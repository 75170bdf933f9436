"""What a comparison with many seeds says, as sections of a page. May import the tables beside it.

=================  ==================================================================================================
``study.py``       the facts: a table, its tests, families and costs
``page.py``        the sections by name, as one text or filled into a page
``summary.py``     section: a row a pair
``gains.py``       sections: what each method gains, under teachers of which family
``changes.py``     sections: what tuning changed
``stability.py``   sections: winners of few seeds, ranks
``cells.py``       sections: every cell, accuracy and cost
``text.py``        how an interval, a p and a table are written
``families.py``    gains under teachers of the student's family and of others
``sizes.py``       whose deployed student is larger than the student alone
``luck.py``        which method a few of many seeds would have crowned
``tuning.py``      the same method as published and as tuned; whether the rankings agree
=================  ==================================================================================================
"""
