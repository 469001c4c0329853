"""Seals saves with a key that the user alone has, since reading a save runs what it says.

The key lies in the cache, where nobody else may write or read. A save that came with a log from
elsewhere has no seal of ours, and is not opened.
"""

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from envs.atomic_file import whole_file
from envs.errors import SaveError
from envs.training.checkpoints import cache_root

KEY_BYTES = 32


def seal(header: Mapping[str, object]) -> str:
    """Seal a header, which names the digest of its state; hexadecimal.

    Raises:
        SaveError: the key cannot be read by its owner alone.
        OSError: the cache cannot be written.
    """
    text = json.dumps({**header, "seal": ""}, sort_keys=True)
    return hmac.new(_key(), text.encode(), hashlib.sha256).hexdigest()


def is_own(header: Mapping[str, object], state: Path) -> bool:
    """Whether this user sealed a header, and nobody else may write its state."""
    try:
        there = state.exists()
        whole = hmac.compare_digest(str(header["seal"]).encode(), seal(header).encode())
        return whole and (not there or _is_ours(state))
    except (OSError, SaveError):
        return False


def _key() -> bytes:
    path = cache_root() / "saves.key"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, flush=True) as part:
            part.touch(mode=0o600)
            part.write_bytes(secrets.token_bytes(KEY_BYTES))
    if not _is_ours(path) or (hasattr(os, "getuid") and path.stat().st_mode & 0o077):
        raise SaveError(
            f"{path} may be read or written by others; remove it, and a new key is made"
        )
    return path.read_bytes()


def _is_ours(path: Path) -> bool:
    """Whether a file is this user's, and nobody else may write it; Windows has other rules."""
    if not hasattr(os, "getuid"):
        return True
    found = path.stat()
    return found.st_uid == os.getuid() and not found.st_mode & 0o022
