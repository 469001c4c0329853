"""Tells which file systems several machines share: SQLite cannot be written there."""

import os
from pathlib import Path

import psutil

_SHARED = frozenset(
    {"afpfs", "afs", "beegfs", "blobfuse", "blobfuse2", "ceph", "cephfs", "cifs", "coda"}
    | {"curlftpfs", "davfs", "davfs2", "gcsfuse", "gfs2", "glusterfs", "goofys", "gpfs", "juicefs"}
    | {"lizardfs", "lustre", "mfs", "moosefs", "ncpfs", "nfs", "nfs3", "nfs4", "ocfs2", "orangefs"}
    | {"panfs", "pvfs2", "rclone", "s3fs", "smb2", "smb3", "smbfs", "smbnetfs", "sshfs", "webdav"}
    | {"wekafs"}
)
"""By the names that mounts have, without the "fuse." of those that a program serves."""


def shared_kind(path: Path) -> str:
    """Name the kind of file system on which processes of several machines could write a file.

    Args:
        path: of the file; it need not be there.

    Returns:
        its name, such as "nfs4"; "" where it is a local one, or is not known.
    """
    kind = _kind(Path(os.path.realpath(path)).parent)  # SQLite follows links
    return kind if kind.removeprefix("fuse.") in _SHARED else ""


def _kind(folder: Path) -> str:
    """Name the kind of file system a folder lies on; "" if it is not known."""
    try:
        mounts = {Path(one.mountpoint): one.fstype for one in psutil.disk_partitions(all=True)}
    except (OSError, RuntimeError, psutil.Error):
        return ""
    return next((mounts[place] for place in (folder, *folder.parents) if place in mounts), "")
