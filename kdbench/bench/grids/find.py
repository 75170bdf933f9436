"""Where a grid's file and folder are; without torch."""

from __future__ import annotations

from pathlib import Path

from kdbench.config.load import read_yaml
from kdbench.errors import ConfigError, did_you_mean
from kdbench.paths import shipped_configs


def find_grid(name: str) -> str:
    """The file of a grid: a path, or the name of one of ``configs/grids/``.

    Raises:
        ConfigError: there is none.
    """
    if name.endswith((".yaml", ".yml")) or Path(name).is_file():
        return name
    file = shipped_grid(name)
    if file is not None:
        return str(file)
    known = sorted({file.stem for folder in _folders() for file in folder.glob("*.yaml")})
    listed = f", or one of {', '.join(known)}" if known else ""
    raise ConfigError(f"no grid {name!r}{did_you_mean(name, known)}; name a .yaml file{listed}")


def shipped_grid(name: str) -> Path | None:
    """``configs/grids/<name>.yaml`` below the working directory, or else of kdbench itself; None where there is none."""
    files = (folder / f"{name}.yaml" for folder in _folders())
    return next((file for file in files if file.is_file()), None)


def folder_of(name: str, prefix: str) -> Path:
    """The folder of a grid: named itself, or by the grid's file or name.

    Raises:
        ConfigError: there is no such grid.
    """
    if (Path(name) / "grid.json").is_file():
        return Path(name)
    file = find_grid(name)
    tree = read_yaml(Path(file))
    if "NAME" not in tree:
        raise ConfigError(f"{file}: NAME is missing")
    return Path(prefix) / str(tree["NAME"])


def _folders() -> list[Path]:
    return [Path.cwd() / "configs" / "grids", shipped_configs() / "grids"]
