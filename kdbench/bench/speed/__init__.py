"""Speed as a ratio against a second thing in the same process; ``tools/bench.py`` prints it. Imports no other room of bench.

===============  =====================================================================================================
``timing.py``    times candidates in turn, so that the machine's drift hits all alike
``step.py``      a method's training step against student step plus teacher forward
``losses.py``    losses alone against a plain KL divergence
``wrapper.py``   a FeatureModel against its bare backbone
``cache.py``     a step served by the cache against one with the live teacher
``cohort.py``    methods trained together on one teacher against the same runs one by one
``memory.py``    peak memory with the cache and without
``data.py``      preparing images against a DataLoader
``gpu/``         what ``tools/gpu.py`` measures of a card, and checks
===============  =====================================================================================================
"""
