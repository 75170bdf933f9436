"""Comparisons and published tables, drawn; readable in grey. May import paper, comparison and results.

==========================  ==========================================================================================
``canvas.py``               panels, legends, marks, and writing a picture
``accuracy.py``             accuracies of each pair with their intervals
``cost.py``                 accuracy against seconds per epoch
``curves.py``               accuracy by epoch
``differences.py``          differences from the baseline with their intervals
``gains.py``                many methods' differences on a few pairs beside each other
``page.py``                 all of a comparison as one page
``steps.py``                many methods' accuracies against the time of a step
``ranks.py``                the critical difference diagram
``published_and_own.py``    published figures against own ones
``every.py``                all pictures of one results folder, or of a study
==========================  ==========================================================================================
"""
