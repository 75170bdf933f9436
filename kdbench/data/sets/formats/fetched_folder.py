"""A folder from an archive on the network: it is there as a whole, or not at all."""

from __future__ import annotations

import logging
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

from torchvision.datasets.utils import download_and_extract_archive

from kdbench.errors import DataError

log = logging.getLogger(__name__)


def fetch_folder(url: str, folder: Path, size: str, remedy: str, md5: str | None = None) -> None:
    """Download and extract an archive beside the final place, then rename.

    Args:
        url: of the archive.
        folder: that it holds, at its final place.
        size: of the archive, for the log.
        remedy: what a user can do instead, for the message.
        md5: of the archive; None is not checked.

    Raises:
        DataError: it cannot be had.
    """
    log.info("downloading %s (%s)", url, size)
    part = folder.parent / f".{folder.name}.{os.getpid()}"
    try:
        part.mkdir(parents=True)
        download_and_extract_archive(url, str(part), md5=md5)
        (part / folder.name).rename(folder)
    except (OSError, RuntimeError, tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        if folder.exists():  # another process was quicker
            return
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{folder}: not there, and cannot be downloaded ({reason}); {remedy}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
