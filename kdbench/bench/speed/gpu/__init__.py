"""What ``tools/gpu.py`` measures of a card; each part runs in a child process of its own.

====================  ================================================================================================
``settings.py``       networks, sizes, numbers of steps
``checks/``           what has to be equal: captured and single steps, GPU and CPU, runs and their repetitions
``rates/``            images per second against a plain loop; where a step's time goes
``environment.py``    card, memory, driver, versions
``parts.py``          the parts, their limits, and which are run beside each other
``child.py``          a part in its process
``conduct.py``        runs the parts and writes down what they found, after each one
``targets.py``        what was asked for: reached, missed, not measured
``page.py``           the results as one page of Markdown
====================  ================================================================================================
"""
