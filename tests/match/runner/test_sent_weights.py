"""State dicts that somebody sent: loading one takes no more room than its file."""

import tracemalloc
import warnings
import zipfile
from io import BytesIO

import pytest
import torch

from arena.runner.sent_weights import plain_state_dict
from envs.errors import QueryError
from envs.nets import registry
from envs.nets.given_weights import take_weights


def saved(state):
    file = BytesIO()
    torch.save(state, file)
    return file.getvalue()


def rewritten(file, change=lambda name, data: data, how=zipfile.ZIP_STORED, twice=False):
    out = BytesIO()
    with (
        zipfile.ZipFile(BytesIO(file)) as source,
        zipfile.ZipFile(out, "w", how) as target,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        for one in source.infolist():
            for name in (one.filename, one.filename)[: 1 + twice]:
                target.writestr(name, change(name, source.read(one)))
    return out.getvalue()


def network(seed=0, name="mlp-small"):
    return registry.build(name, num_classes=10, image_shape=(1, 8, 8),
                          generator=torch.Generator().manual_seed(seed))  # fmt: skip


@pytest.mark.parametrize("state", [
    lambda net: net.state_dict(),
    lambda net: dict(net.named_parameters()) | dict(net.named_buffers()),
    lambda net: {"model": {f"module.{name}": one for name, one in net.state_dict().items()}},
    lambda net: {name: one.double() if one.is_floating_point() else one
                 for name, one in net.state_dict().items()},
])  # fmt: skip
def test_what_torch_save_writes_is_taken(tmp_path, state):
    given, taken = network(seed=3, name="conv-small"), network(name="conv-small")
    (tmp_path / "a.pt").write_bytes(plain_state_dict(saved(state(given))))
    take_weights(taken, tmp_path / "a.pt")
    images = torch.rand(3, 1, 8, 8)
    assert torch.equal(taken.eval()(images), given.eval()(images))


def overlapping(file):
    """Let the archive's list name one entry a thousand times."""
    with zipfile.ZipFile(BytesIO(file)) as archive:
        start = archive.start_dir
        entries = len(archive.infolist())
    end = file.rindex(b"PK\x05\x06")
    size = 50 * (end - start)
    listed = file[start:end] * 50
    counts = (50 * entries).to_bytes(2, "little") * 2
    tail = file[end : end + 8] + counts + size.to_bytes(4, "little") + start.to_bytes(4, "little")
    return file[:start] + listed + tail + b"\0\0"


def bytes_of_a_number(name, data):
    if not name.endswith("data.pkl"):
        return data
    return b"\x80\x02c__builtin__\nbytearray\nJ" + (2**28).to_bytes(4, "little") + b"\x85R."


BIG = saved({"a": torch.zeros(2**22)})
HOSTILE = {
    "deflated": (rewritten(BIG, how=zipfile.ZIP_DEFLATED), "is packed"),
    "packed by lzma": (rewritten(BIG, how=zipfile.ZIP_LZMA), "is packed"),
    "one place many times": (overlapping(rewritten(saved({"a": torch.zeros(1000)}))), "is packed"),
    "a name twice": (rewritten(saved({"a": torch.zeros(9)}), twice=True), "two entries"),
    "a number of bytes": (rewritten(saved({}), bytes_of_a_number), "bytearray"),
    "a class": (saved({"a": torch.Size([3])}), "torch Size"),
    "a long list": (saved({str(one): one for one in range(200_000)}), "lists tensors in"),
    "no archive": (b"PK nonsense", "no state dict"),
    "half of one": (BIG[: 2**20], "no state dict"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_would_take_more_room_than_its_file_is_refused_in_one_line(name):
    file, why = HOSTILE[name]
    tracemalloc.start()
    try:
        with pytest.raises(QueryError, match=why) as caught:
            plain_state_dict(file)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert peak < 3 * len(file) + 2**20
