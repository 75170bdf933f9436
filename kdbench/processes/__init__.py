"""The processes of one run: they agree before they begin, each watches the others, and they end together with one message.

Rooms:

- place: Where a process stands among those of a run, and whether another one of the same machine still lives.
- board: What the processes tell one another, in the store through which they met.
- verdict: Who of them is gone, silent or stuck, judged by what they tell.
- watch: A thread that tells, judges, and ends its process when another is gone.
- together: From the first process's start to the last one's end.
- one_voice: For the command: the main process speaks alone.

Each may import those above it.
"""
