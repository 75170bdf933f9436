"""Images per second, and where a step's time goes.

==================  ==================================================================================================
``plain.py``        the loop that anybody would write in PyTorch
``candidate.py``    one way of training in a process of its own, which takes steps when it is told to
``turns.py``        several such processes, read by turns
``tables.py``       which ways are compared, on the small and on the large pair
``trace.py``        launches, waits and busy time in a profiler's trace
``profiles.py``     a run's steps under the profiler, and its wait for data
==================  ==================================================================================================
"""
