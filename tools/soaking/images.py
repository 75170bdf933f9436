"""Every byte of a small PNG, JPEG and WebP in a folder of images: decoded or refused in one line."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tiny_run import content

from soaking.child import Child, Ended, command, ended
from soaking.place import Place, difference, run_in
from soaking.verdict import CRASH, HEALED, REFUSED, TRACEBACK, WRONG, Verdict, fault_of, judge

FORMS = ("png", "jpeg", "webp")
_SIDE = 12
_PER_CASE = 16  # bytes of a file that one process tries
#: every so many cases a whole command
_COMMANDS = 8


def case(place: Place, number: int, chance: random.Random) -> list[Verdict]:
    """The next bytes of the three files, in one process; now and then a whole command on a folder with one damaged file."""
    root = place.once("images", _folder)
    if number % _COMMANDS == _COMMANDS - 1:
        return [_command(place, root, chance)]
    turn = number - number // _COMMANDS
    places = [(form, at) for form in FORMS for at in range(0, len(_good(root, form)), _PER_CASE)]
    form, begin = places[turn % len(places)]
    return _bytes(place, root, form, begin, chance)


def least(place: Place) -> int:
    """Cases until every byte of every file was tried."""
    root = place.once("images", _folder)
    turns = sum(-(-len(_good(root, form)) // _PER_CASE) for form in FORMS)
    return turns * _COMMANDS // (_COMMANDS - 1) + 2


def _bytes(place: Place, root: Path, form: str, begin: int, chance: random.Random) -> list[Verdict]:
    good = _good(root, form)
    tried = []
    for at in range(begin, min(begin + _PER_CASE, len(good))):
        for value in (good[at] ^ 0xFF, good[at] ^ 1 << chance.randrange(8), chance.randrange(256)):
            tried.append((f"byte {at} of a {form} is {value}", good[:at] + bytes([value]) + good[at + 1 :]))
        tried.append((f"{form} cut at byte {at}", good[:at]))
    found: list[Verdict] = []
    with place.case() as folder:
        while len(found) < len(tried):  # again behind what ended the process
            log = folder / "log"
            log.unlink(missing_ok=True)
            rest = tried[len(found) :]
            done = ended(lambda rest=rest, log=log: _decode_all(folder / f"a.{form}", rest, log))  # type: ignore[misc]
            told = log.read_text().splitlines() if log.exists() else []
            found += [_verdict(line, accident) for line, (accident, _) in zip(told, rest)]
            if len(told) < len(rest):
                accident = rest[len(told)][0]
                found.append(fault_of(done, accident) or Verdict(CRASH, accident, f"it ended with {done.code}"))
    return found


def _decode_all(file: Path, tried: list[tuple[str, bytes]], log: Path) -> None:
    from kdbench.data.augmentation.decode import decode
    from kdbench.errors import DataError

    for _, changed in tried:
        file.write_bytes(changed)
        try:
            image = decode(file)
            word = HEALED if image.shape[0] == 3 and str(image.dtype) == "torch.uint8" else f"{WRONG}: {image.shape}"
        except DataError as error:
            word = (
                REFUSED if "\n" not in str(error) and str(error).startswith(f"{file}: ") else f"{TRACEBACK}: {error!r}"
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, it is no line
            word = f"{TRACEBACK}: {error!r}"
        with log.open("a") as stream:
            stream.write(word.replace("\n", " ") + "\n")


def _verdict(line: str, accident: str) -> Verdict:
    word, _, seen = line.partition(": ")
    return Verdict(word, accident, seen)


def _command(place: Place, root: Path, chance: random.Random) -> Verdict:
    """Train on a folder with one damaged file; one that can be decoded is another image, so that the figure is another run's."""
    form, verify = chance.choice(FORMS), chance.random() < 0.5
    with place.case() as folder:
        data = folder / "data"
        shutil.copytree(root, data)
        file = next((data / "train").rglob(f"*.{form}"))
        good = bytearray(file.read_bytes())
        at = chance.randrange(len(good))
        good[at] ^= 1 << chance.randrange(8)
        file.write_bytes(good)
        accident = f"a bit of byte {at} of a {form}, {'verify' if verify else 'train'}"

        def once(name: str) -> Ended:
            return Child(command(*_words(data, folder / name, verify))).wait()

        def figure() -> str:
            once("again")
            return difference(folder / "runs", content(run_in(folder / "again")))

        return judge(once("runs"), accident, figure)


def _words(data: Path, prefix: Path, verify: bool) -> list[str]:
    options: dict[str, Any] = {"DATASET.TYPE": f"folder:{data}", "LOG.PREFIX": prefix, "DATASET.NUM_WORKERS": 0}
    options |= {"DISTILLER.STUDENT": "small_cnn", "SOLVER.EPOCHS": 1, "SOLVER.BATCH_SIZE": 4, "SOLVER.LR": 0.01}
    options |= {"DATASET.OPTIONS": {"verify": verify}, "RUNTIME.DEVICE": "cpu"}
    return ["train", *(f"{key}={value}" for key, value in options.items())]


def _good(root: Path, form: str) -> bytes:
    return next((root / "train").rglob(f"*.{form}")).read_bytes()


def _folder(folder: Path) -> Path:
    """Two classes, each with an image of each form, for training and for the test."""
    draws = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("a", "b"):
            (folder / split / kind).mkdir(parents=True)
            for form in FORMS:
                pixels = draws.integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / kind / f"x.{form}")
    return folder
