"""A build backend that builds nothing: it hands pip the metadata which the archive already holds.

`pip download` asks a source archive's backend for metadata before it keeps the archive. With this one on PYTHONPATH
nothing of the archive is run, and no build requirement, which no hash would hold, is fetched.
"""

import shutil
from email.parser import HeaderParser
from pathlib import Path


def prepare_metadata_for_build_wheel(metadata_directory: str, _config_settings: object = None) -> str:
    """Copies the archive's PKG-INFO; pip runs this in the unpacked archive."""
    known = HeaderParser().parsestr(Path("PKG-INFO").read_text(encoding="utf-8"))
    folder = Path(metadata_directory, f"{known['Name']}-{known['Version']}.dist-info")
    folder.mkdir()
    shutil.copy("PKG-INFO", folder / "METADATA")
    return folder.name
