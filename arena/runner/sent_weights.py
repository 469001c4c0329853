"""Takes a state dict that somebody sent: loading it takes no more room than its file does."""

import pickletools
import re
import zipfile
from io import BytesIO

from envs.errors import QueryError, one_line

_MAKERS = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(tensor_v2|parameter)|torch \w+Storage"
)
"""What a state dict is made by. Others that torch lets through take a size, as bytearray does."""

_MOST_BYTES = 2**20  # of what says which tensors there are: some 5,000 of them


def plain_state_dict(file: bytes) -> bytes:
    """Copy the archive of a state dict, after all that is in it was looked at.

    The copy is what may be loaded: two programs can read different things in one archive.

    Raises:
        QueryError: it is none, it is packed, or it makes more than tensors.
    """
    copy = BytesIO()
    try:
        with zipfile.ZipFile(BytesIO(file)) as sent, zipfile.ZipFile(copy, "w") as plain:
            _require_unpacked(sent, len(file))
            for one in sent.infolist():
                data = sent.read(one)
                if one.filename.lower().endswith(".pkl"):
                    _require_tensors(data)
                plain.writestr(one.filename, data)
    except QueryError:
        raise
    except Exception as error:  # zipfile and pickletools raise half a dozen kinds
        raise QueryError(f"the file is no state dict: {one_line(error)[:150]}") from error
    return copy.getvalue()


def _require_unpacked(archive: zipfile.ZipFile, size: int) -> None:
    """Refuse entries that take more room than the file: packed ones, and several in one place."""
    entries = archive.infolist()
    packed = any(one.compress_type != zipfile.ZIP_STORED for one in entries)
    if packed or sum(one.file_size for one in entries) > size:
        raise QueryError("the file is packed; expected a state dict as torch.save writes it")
    if len({one.filename.lower() for one in entries}) < len(entries):
        raise QueryError("the file has two entries of one name")


def _require_tensors(program: bytes) -> None:
    if len(program) > _MOST_BYTES:
        raise QueryError(f"the file lists tensors in {len(program)} bytes; expected a state dict")
    for step, named, _ in pickletools.genops(program):
        if step.name in ("STACK_GLOBAL", "INST") or (
            step.name == "GLOBAL" and not _MAKERS.fullmatch(str(named))
        ):
            raise QueryError(
                f"the file makes {str(named)[:80]!a}; expected a state dict of tensors alone"
            )
