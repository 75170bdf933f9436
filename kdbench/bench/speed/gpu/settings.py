"""What is measured: networks, sizes, numbers of steps; small enough for a test on a CPU, or what a card is judged by."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

#: pixels that kdbench's loader prepares together on a GPU, see :mod:`kdbench.data.loader`
_CHUNK = 4 * 1024 * 32 * 32
#: steps in which a captured step is warm
_WARM = 8
#: the methods of the quickstart
SEVEN = ("Vanilla", "KD", "DKD", "DIST", "OFA", "LDRLD", "HCD")
#: takes a part's result as far as it has come
Save = Callable[[dict[str, Any]], None]


def in_a_line(error: BaseException) -> str:
    """An error's type and the first line of its message."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


@dataclass(frozen=True)
class Pair:
    """A teacher, a student and the images of which their steps are timed.

    Attributes:
        teacher, student: names of networks.
        size: side of the images.
        classes: K.
        batch, large_batch: sizes of a batch; ``large_batch`` 0 = none is measured.
        steps: of a reading.
        rounds: readings of each candidate.
        options: of teacher and student.
        repeat: passes over the images that make an epoch, so that they need not be many.
        chunk: pixels that are prepared together.
    """

    teacher: str
    student: str
    size: int
    classes: int
    batch: int
    steps: int
    rounds: int
    large_batch: int = 0
    options: tuple[dict[str, Any], dict[str, Any]] = field(default_factory=lambda: ({}, {}))
    repeat: int = 1
    chunk: int = _CHUNK

    def together(self, batch: int) -> int:
        """Steps whose batches are prepared together."""
        return max(1, self.chunk // (batch * self.size**2))

    def window(self, batch: int, readings: int = 0) -> tuple[int, int, int]:
        """Steps of an epoch before the readings, in one of them, and of the whole epoch, which holds ``readings`` (0 = ``rounds``).
        A reading holds whole chunks of the loader, so that it has its share of what is done for several batches at once."""
        chunk = self.together(batch)
        steps = max(1, round(self.steps * self.batch / batch / chunk)) * chunk
        before = -(-_WARM // chunk) * chunk
        whole = before + (readings or self.rounds) * steps + chunk
        return before, steps, -(-whole // self.repeat) * self.repeat


@dataclass(frozen=True)
class Settings:
    """Of one call of the tool.

    Attributes:
        device: ``cuda`` or ``cpu``.
        methods: those whose steps are checked; empty = all.
        peers: files of adapters for other projects' trainers.
        small, large: the pairs that are timed.
    """

    device: str
    small: Pair
    large: Pair
    methods: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()

    @property
    def is_gpu(self) -> bool:
        """Whether a GPU is measured."""
        return self.device.startswith("cuda")

    def only(self, methods: tuple[str, ...]) -> Settings:
        """The same for these methods alone."""
        return replace(self, methods=methods)

    def to_json(self) -> str:
        """As a child process is given them."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """The inverse."""
        tree = json.loads(text)
        for name in ("small", "large"):
            tree[name] = Pair(**{**tree[name], "options": tuple(tree[name]["options"])})
        return cls(**{**tree, "methods": tuple(tree["methods"]), "peers": tuple(tree["peers"])})


def settings_for(device: str, methods: tuple[str, ...] = (), peers: tuple[str, ...] = ()) -> Settings:
    """What is measured on a card, or, on a CPU, a rehearsal of it with networks of no interest."""
    if device.startswith("cuda"):
        small = Pair("resnet32x4", "resnet8x4", 32, 100, batch=64, steps=128, rounds=3, large_batch=256)
        swin = "timm:swin_tiny_patch4_window7_224"
        large = Pair(swin, "timm:resnet18", 224, 100, batch=128, steps=24, rounds=3, repeat=12)
        return Settings(device, small, large, methods, peers)
    options: tuple[dict[str, Any], dict[str, Any]] = ({"widths": [12, 16, 24]}, {})
    both: dict[str, Any] = {"classes": 10, "batch": 8, "steps": 2, "rounds": 2, "options": options, "chunk": 1}
    small = Pair("small_cnn", "small_cnn", 16, **both)
    large = Pair("small_cnn", "small_cnn", 24, repeat=2, **both)
    return Settings(device, small, large, methods, peers)
