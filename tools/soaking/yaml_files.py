"""Files of YAML: bombs and what is no configuration, then random damage of the shipped ones."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from hostile_yaml import FILES, VALUES

from soaking.child import command, ended
from soaking.damage import damage
from soaking.place import Place
from soaking.verdict import Verdict, judge

_SHIPPED = Path(__file__).parents[2] / "configs"
_NONSENSE = (
    "",
    "~",
    "-1",
    "1e400",
    "[",
    "{a: 1}",
    "*x",
    "&x 1",
    "!!python/name:os.system",
    "'",
    ".inf",
    "9" * 400,
    "\0",
    "\t",
)


def case(place: Place, number: int, chance: random.Random) -> list[Verdict]:
    """A file that a configuration or a grid is read from, without training it."""
    configs = place.once("configs", _copied)
    hostile = [*FILES, *VALUES]
    if number < len(hostile):
        kind = hostile[number]
        content = (FILES[kind] if kind in FILES else VALUES[kind])[0]
        file = configs / f"hostile{number}.yaml"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        words = [["cache", "ls", "--cfg", str(file)], ["grid", str(file), "--dry-run", "--no-probe"]]
        found = [
            judge(ended(command(*each)), f"{kind}: {each[0]}", lambda: "")
            for each in words[: 2 if kind in FILES else 1]
        ]
        file.unlink()
        return found
    origin = chance.choice(sorted(set(configs.rglob("*.yaml"))))
    done, changed = _changed(origin.read_bytes(), chance)
    file = origin.with_name(f"damaged{number}.yaml")  # beside it: what it names is relative to it
    file.write_bytes(changed)
    try:
        shown = ["grid", str(file), "--dry-run", "--no-probe"]
        words = shown if origin.parent.name == "grids" else ["cache", "ls", "--cfg", str(file)]
        return [judge(ended(command(*words)), f"{origin.relative_to(configs)}: {done}", lambda: "")]
    finally:
        file.unlink()


def _changed(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    lines = content.decode().splitlines()
    places = [place for place, line in enumerate(lines) if ":" in line]
    if not places or chance.random() < 0.5:
        return damage(content, chance)
    place = chance.choice(places)
    value = chance.choice(_NONSENSE)
    lines[place] = f"{lines[place].partition(':')[0]}: {value}"
    return f"line {place + 1}: {value[:20]!r}", "\n".join(lines).encode()


def _copied(folder: Path) -> Path:
    shutil.copytree(_SHIPPED, folder / "configs")
    return folder / "configs"
