"""Zip files that come out the same byte for byte."""

from __future__ import annotations

import os
import time
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# The day of the first layer, where SOURCE_DATE_EPOCH says nothing.
_EPOCH = 1_767_225_600

PROGRAM, FILE = 0o100755, 0o100644


def write(path: Path, files: Mapping[str, bytes], programs: frozenset[str] = frozenset()) -> int:
    """Write `files` (name -> content) in the order of their names; the size of the zip in bytes.

    All have the time of SOURCE_DATE_EPOCH; `programs` may be executed, the rest may be read by everybody.
    """
    moment = time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", _EPOCH)))[:6]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, moment)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, wherever this runs: else the permissions count for nothing
            entry.external_attr = (PROGRAM if name in programs else FILE) << 16
            archive.writestr(entry, files[name])
    return path.stat().st_size
