"""Downloads that are checked before they get their name."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

from crispyx._io.atomic import atomic_path
from crispyx._run.progress import track
from crispyx.datasets.folders import INSTEAD, sha256
from crispyx.datasets.registry import OriginalFile
from crispyx.errors import MissingFileError

_PIECE = 65536


def fetch(original: OriginalFile, folder: Path, timeout: float) -> Path:
    """Return the path of a published file in ``folder``, downloaded unless it is there already.

    Parameters
    ----------
    original : OriginalFile
        Name, address and checksum.
    folder : pathlib.Path
        Kept between calls; a file there with another checksum is downloaded again.
    timeout : float
        Seconds to wait for the server before each answer.

    Raises
    ------
    MissingFileError
        The server cannot be reached, does not have the file, breaks off, or sends something else.
    """
    path = folder / original.name
    if path.is_file() and sha256(path) == original.sha256:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as work:
        found = _receive(original, work, timeout)
        if found != original.sha256:
            raise _failure(
                original, f"what came has SHA-256 {found}, expected {original.sha256}; removed"
            )
    return path


def _receive(original: OriginalFile, work: Path, timeout: float) -> str:
    """Write the body of the answer to ``work`` and return its checksum."""
    import http.client
    import urllib.error
    import urllib.request

    digest = hashlib.sha256()
    received = 0
    try:
        with (
            urllib.request.urlopen(original.url, timeout=timeout) as answer,
            open(work, "wb") as file,
        ):
            expected = int(answer.headers.get("Content-Length") or 0)
            pieces = track(
                iter(lambda: answer.read(_PIECE), b""),
                total=math.ceil(expected / _PIECE),
                label=original.name,
                unit=f" x {_PIECE // 1024} kB",
            )
            for piece in pieces:
                digest.update(piece)
                received += file.write(piece)
    except urllib.error.HTTPError as error:
        error.close()
        raise _failure(original, f"the server answered {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _failure(original, f"the server cannot be reached: {error.reason}") from error
    except (http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise _failure(original, f"the transfer broke off after {received:,} bytes") from error
    if received < expected:
        raise _failure(original, f"the transfer broke off after {received:,} of {expected:,} bytes")
    return digest.hexdigest()


def _failure(original: OriginalFile, reason: str) -> MissingFileError:
    return MissingFileError(
        f"cannot download {original.url}: {reason}. Try again later, or fetch the file by other "
        f"means and put it into the cache folder as {original.name!r} (cache_dir= or "
        f"CRISPYX_CACHE_DIR). Or, {INSTEAD}"
    )
