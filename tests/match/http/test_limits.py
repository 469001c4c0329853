"""What the wire format refuses, and how much of it is read."""

import json

import pytest

from arena.http.protocol import LARGEST_JSON, ProtocolError, decode

IMAGE = {"name": "images", "datatype": "FP32", "shape": [1], "data": [0.5]}


def message(**changes):
    return json.dumps({"inputs": [{**IMAGE, **changes}]}).encode()


BAD = {
    "a length of 5,000 digits": (b"{}", "9" * 5000, "expected Inference-Header"),
    "a length in other digits": (b"{}", "٣", "expected Inference-Header"),
    "a negative length": (b"{}", "-1", "expected Inference-Header"),
    "a shape of 4,000 digits": (message(shape=[10**4000]), None, "images: expected a shape"),
    "a shape of many sides": (message(shape=[1] * 100), None, "images: expected a shape"),
    "a shape that is a text": (message(shape="12"), None, "images: expected a shape"),
    "a shape of truth values": (message(shape=[True]), None, "images: expected a shape"),
    "half of a character": (message(name="\ud800"), None, "printable characters"),
    "a name that steers": (message(name="\x1b[2J"), None, "printable characters"),
    "a long name": (message(name="x" * 1000), None, "at most 100"),
    "a long datatype": (message(datatype="x" * 10**6), None, "expected datatype"),
    "a size of 4,000 digits": (
        message(parameters={"binary_data_size": 10**4000}), None, "expected binary_data_size"
    ),
    "a size that is true": (
        message(parameters={"binary_data_size": True}), None, "expected binary_data_size"
    ),
    "two of one name": (
        json.dumps({"inputs": [IMAGE, IMAGE]}).encode(), None, "each tensor once"
    ),
    "brackets": (b"[" * 100_000, None, "expected a JSON header"),
    "a number of 5,000 digits": (b'{"inputs": ' + b"9" * 5000 + b"}", None, "expected a JSON"),
    "halves where bytes are due": (message(datatype="UINT8"), None, "whole numbers of UINT8"),
    "a byte of 300": (message(datatype="UINT8", data=[300]), None, "whole numbers of UINT8"),
    "lists in lists": (message(shape=[2, 3], data=[[1, 2, 3], [1, 2]]), None, "expected 6 numbers"),
    "another nesting": (message(shape=[2, 2], data=[[[1], [2]], [3, 4]]), None, "expected 4 num"),
    "lists too many": (message(shape=[2], data=[[1], [2]]), None, "expected 2 numbers"),
    "texts": (message(data=["0.5"]), None, "expected 1 numbers"),
    "tables": (message(data=[{}]), None, "expected 1 numbers"),
    "no list": (message(data=0.5), None, "expected 1 numbers"),
    "much JSON": (b" " * (LARGEST_JSON + 1), None, "expected a JSON header of at most"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_message_out_of_bounds_is_refused_in_one_short_line(case):
    body, length, words = BAD[case]
    with pytest.raises(ProtocolError, match=words) as caught:
        decode(body, length, "inputs")
    assert len(str(caught.value)) < 300
    str(caught.value).encode()


@pytest.mark.parametrize("data", [[1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]]])
def test_the_image_itself_is_read(data):
    read = decode(message(shape=[2, 3], data=data), None, "inputs").tensors["images"]
    assert read.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_numbers_beyond_the_datatype_are_infinity_which_is_no_image():
    read = decode(message(shape=[2], data=[1e300, -1e300]), None, "inputs").tensors["images"]
    assert read.tolist() == [float("inf"), float("-inf")]


def test_lists_of_another_nesting_are_refused_before_they_are_converted(monkeypatch):
    """NumPy takes half a minute for 8 MB of empty lists."""
    monkeypatch.setattr("arena.http.protocol.np.array", lambda data: pytest.fail("converted"))
    for data in ([[]] * 1000, [[[0.5]]] * 1000, [0.5] * 1001, ["x"] * 1000):
        with pytest.raises(ProtocolError, match="expected 1000 numbers in 'data'"):
            decode(message(shape=[1000], data=data), None, "inputs")
