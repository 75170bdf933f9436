"""A pool that carries tasks out in this process, as they are asked for: a grid without the start of a worker."""

from __future__ import annotations

from kdbench.bench.running.pools.pool import guarded


class InlinePool:
    """``room`` tasks at a time; ``begun`` are the keys of all that were started, in their order, ``kinds`` what was said of them.
    ``before(key)`` may return an outcome in the place of a task's own."""

    def __init__(self, room=1, before=None):
        self.room, self.before = room, before or (lambda key: None)
        self.begun, self.kinds, self.tasks = [], [], []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    @property
    def has_room(self):
        return len(self.tasks) < self.room

    def has_room_for(self, kind, *, alone=False):
        return self.has_room and not (alone and self.tasks)

    @property
    def is_busy(self):
        return bool(self.tasks)

    def start(self, key, fn, *args, kind="", alone=False):
        self.begun.append(list(key))
        self.kinds.append((kind, alone))
        self.tasks.append((key, fn, args))

    def finished(self, timeout=None):
        key, fn, args = self.tasks.pop(0)
        yield key, self.before(key) or guarded(fn, args)

    def stop(self):
        return False
