"""Durable files."""

from pathlib import Path

from mcp_sod.audit.durable import make_folder, write_file, write_once, write_temporary


def test_replaces_a_file_whole(tmp_path: Path) -> None:
    """A file is replaced under its own name and nothing else is left, even after an interrupted try."""
    path = tmp_path / "mark"
    write_file(path, b"one")
    write_temporary(path, b"torn", mode=0o600)
    write_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_never_writes_over(tmp_path: Path) -> None:
    """The second write under one name changes nothing and says so."""
    path = tmp_path / "batch"
    assert write_once(path, b"one")
    assert not write_once(path, b"two")
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_makes_folders_on_the_way(tmp_path: Path) -> None:
    """Missing folders are made, and one that is there is left alone."""
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
