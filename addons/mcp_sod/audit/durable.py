"""Files that are still there after the power fails."""

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: a new, renamed or removed file is not, until its folder is synced."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, each durable in its parent."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(folder.parent)


def write_temporary(path: Path, content: bytes, *, mode: int) -> Path:
    """Write a file under a hidden name beside `path`, synced; a leftover of a crash is written over."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(fd)
    return temporary


def write_file(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace a file, whole or not at all, and durably."""
    write_temporary(path, content, mode=mode).replace(path)
    sync_folder(path.parent)


def write_once(path: Path, content: bytes, *, mode: int = 0o444) -> bool:
    """Write a file that is not there yet, whole or not at all; return False, and change nothing, if it is there."""
    temporary = write_temporary(path, content, mode=mode)
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    sync_folder(path.parent)
    return True
