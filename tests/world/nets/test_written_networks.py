"""Networks that were written to a file with their weights: exported programs and ONNX."""

import copy
import pickle
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from envs.errors import ArenaError, DataMissing, ScenarioError
from envs.nets import registry
from envs.nets.exit_cost import profile
from envs.nets.given_weights import take_weights
from envs.nets.multi_exit import MultiExit
from envs.victim.victim import Victim

onnx = pytest.importorskip("onnx", reason="ONNX files need onnx")
pytest.importorskip("onnxruntime", reason="ONNX files need onnxruntime")

SHAPE = (1, 8, 8)


class Plain(nn.Module):
    """Two convolutions and a linear layer."""

    def __init__(self, classes=10):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2)
        self.last = nn.Linear(8 * 16, classes)

    def forward(self, images):
        return self.last(F.relu(self.second(F.relu(self.first(images)))).flatten(1))


@pytest.fixture(scope="module")
def plain():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Plain().eval()


def build(path, *, classes=10, shape=SHAPE, **options):
    return registry.build(str(path), num_classes=classes, image_shape=shape,
                          generator=torch.Generator().manual_seed(0), **options).eval()  # fmt: skip


def images(count=6, shape=SHAPE):
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


# ONNX


def write_onnx(plain, path, *, batch="n", sides=(8, 8), last=False, byte=False, softmax=False,
               mean_of_places=False):  # fmt: skip
    """Write the network as its layers say, without an exporter."""
    h = onnx.helper
    kind = onnx.TensorProto.UINT8 if byte else onnx.TensorProto.FLOAT
    shape = [batch, *sides, 1] if last else [batch, 1, *sides]
    name, nodes = "images", []
    if byte:
        nodes += [h.make_node("Cast", [name], ["cast"], to=onnx.TensorProto.FLOAT),
                  h.make_node("Div", ["cast", "full"], ["unit"])]  # fmt: skip
        name = "unit"
    if last:
        nodes.append(h.make_node("Transpose", [name], ["first_channels"], perm=[0, 3, 1, 2]))
        name = "first_channels"
    nodes += [
        h.make_node("Conv", [name, "first.weight", "first.bias"], ["a"], pads=[1] * 4),
        h.make_node("Relu", ["a"], ["b"]),
        h.make_node("Conv", ["b", "second.weight", "second.bias"], ["c"], pads=[1] * 4,
                    strides=[2, 2], group=2),
        h.make_node("Relu", ["c"], ["d"]),
        h.make_node("Flatten", ["d"], ["e"]),
        h.make_node("Gemm", ["e", "last.weight", "last.bias"], ["f"], transB=1),
    ]  # fmt: skip
    if softmax:
        nodes.append(h.make_node("Softmax", ["f"], ["g"]))
    state = {name: tensor.numpy() for name, tensor in plain.state_dict().items()}
    state["full"] = np.float32(255)
    graph = h.make_graph(
        nodes,
        "plain",
        [h.make_tensor_value_info("images", kind, shape)],
        [h.make_tensor_value_info(nodes[-1].output[0], onnx.TensorProto.FLOAT, [batch, 10])],
        [onnx.numpy_helper.from_array(value, name) for name, value in state.items()],
    )
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    "options", [{}, {"batch": 1}, {"batch": 4}, {"last": True}, {"sides": ("h", "w")}]
)
def test_an_onnx_file_answers_as_the_network(plain, tmp_path, options):
    network = build(write_onnx(plain, tmp_path / "a.onnx", **options))
    torch.testing.assert_close(network(images()), plain(images()), rtol=1e-4, atol=1e-5)
    assert network.is_given
    assert not network.is_drawable


def test_a_file_that_takes_bytes_gets_them(plain, tmp_path):
    network = build(write_onnx(plain, tmp_path / "a.onnx", byte=True))
    whole = (images() * 255).round() / 255
    torch.testing.assert_close(network(images()), plain(whole), rtol=1e-4, atol=1e-5)


def test_posteriors_of_a_file_are_served_as_such(plain, tmp_path):
    victim = Victim(MultiExit(build(write_onnx(plain, tmp_path / "a.onnx", softmax=True))))
    torch.testing.assert_close(
        victim.posteriors(images()), plain(images()).softmax(1), rtol=1e-4, atol=1e-5
    )


def test_its_cost_is_that_of_the_network(plain, tmp_path):
    found = profile(MultiExit(build(write_onnx(plain, tmp_path / "a.onnx"))))
    # 8x8 places of 4 channels from 1, 4x4 of 8 from 2, then 10 of 128
    assert found.macs == (64 * 4 * 9 + 16 * 8 * 2 * 9 + 10 * 128,)
    assert found.weight_bytes[0] >= sum(p.nbytes for p in plain.parameters())
    assert 6 <= found.ops[0] <= 12


def test_copies_and_digests_hold_the_file(plain, tmp_path):
    path = write_onnx(plain, tmp_path / "a.onnx")
    network = build(path)
    path.unlink()
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(other(images()), network(images()))
    assert any(tensor.dtype == torch.uint8 for tensor in network.state_dict().values())


@pytest.mark.parametrize(
    ("options", "shape", "classes", "said"),
    [
        ({"sides": (7, 7)}, SHAPE, 10, r"takes images \(1, 7, 7\), and the data has \(1, 8, 8\)"),
        ({}, (3, 8, 8), 10, r"takes images \(1, 8, 8\), and the data has \(3, 8, 8\)"),
        ({}, SHAPE, 13, r"answers \(2, 10\) for 2 images, and the data has 13 classes"),
        ({"sides": ("h", "w")}, (1, 4, 4), 10, r"does not take images \(1, 4, 4\)"),
    ],
)
def test_a_file_for_other_images_is_told_in_one_line(
    plain, tmp_path, options, shape, classes, said
):
    path = write_onnx(plain, tmp_path / "a.onnx", **options)
    with pytest.raises(ScenarioError, match=said) as told:
        build(path, shape=shape, classes=classes)
    assert "\n" not in str(told.value)


def write_graph(path, nodes, inputs, output, weights=()):
    h = onnx.helper
    graph = h.make_graph(
        nodes, "g",
        [h.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in inputs],
        [h.make_tensor_value_info(output, onnx.TensorProto.FLOAT, ["n", 10])],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights],
    )  # fmt: skip
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_dynamic_axes_that_hide_the_cost_are_told_in_one_line(tmp_path):
    node = onnx.helper.make_node
    nodes = [
        node("NonZero", ["images"], ["places"]),  # as many as the values say
        node("Cast", ["places"], ["floats"], to=onnx.TensorProto.FLOAT),
        node("Transpose", ["floats"], ["rows"]),
        node("MatMul", ["floats", "rows"], ["square"]),
        node("ReduceMean", ["square"], ["mean"], keepdims=0),
        node("Flatten", ["images"], ["flat"]),
        node("MatMul", ["flat", "w"], ["answers"]),
        node("Add", ["answers", "mean"], ["out"]),
    ]
    weights = [("w", np.ones((64, 10), dtype=np.float32))]
    path = write_graph(tmp_path / "a.onnx", nodes, [("images", ["n", 1, 8, 8])], "out", weights)
    with pytest.raises(ScenarioError, match="'floats' at 'MatMul' depends on dynamic axes") as told:
        build(path)
    assert "\n" not in str(told.value)


def test_what_is_no_file_for_images_is_told_in_one_line(tmp_path):
    node = onnx.helper.make_node
    two = [("images", ["n", 1, 8, 8]), ("more", ["n", 10])]
    path = write_graph(
        tmp_path / "two.onnx",
        [node("Flatten", ["images"], ["f"]), node("Relu", ["more"], ["out"])], two, "out",
    )  # fmt: skip
    with pytest.raises(ScenarioError, match=r"expected one input \(n, c, h, w\)"):
        build(path)
    (tmp_path / "text.onnx").write_bytes(b"text")
    with pytest.raises(DataMissing, match="is no ONNX file that can be run"):
        build(tmp_path / "text.onnx")
    with pytest.raises(ScenarioError, match=r"gone\.onnx: no such file"):
        build(tmp_path / "gone.onnx")


@pytest.mark.parametrize("library", ["onnx", "onnxruntime"])
def test_without_a_library_one_line_says_how_to_get_it(plain, tmp_path, monkeypatch, library):
    path = write_onnx(plain, tmp_path / "a.onnx")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ScenarioError, match=rf"needs {library}; pip install 'fortress-arena\[onnx"):
        build(path)


# Exported programs


def write_program(network, path, *, batch=4, dynamic=True, shape=SHAPE):
    sizes = ({0: torch.export.Dim("n", min=1)},) if dynamic else None
    program = torch.export.export(network, (torch.zeros(batch, *shape),), dynamic_shapes=sizes)
    torch.export.save(program, path)
    return path


@pytest.mark.parametrize(("batch", "dynamic"), [(4, True), (4, False), (1, False)])
def test_an_exported_program_answers_as_the_network(plain, tmp_path, batch, dynamic):
    path = write_program(plain, tmp_path / "a.pt2", batch=batch, dynamic=dynamic)
    network = build(path)
    torch.testing.assert_close(network(images()), plain(images()))
    network.train()
    torch.testing.assert_close(network(images()), plain(images()))
    assert network.is_given
    victim = Victim(MultiExit(network))
    torch.testing.assert_close(victim.posteriors(images()), plain(images()).softmax(1))


def test_the_cost_of_a_program_is_that_of_the_network(plain, tmp_path):
    found = profile(MultiExit(build(write_program(plain, tmp_path / "a.pt2"))))
    assert found.macs == (64 * 4 * 9 + 16 * 8 * 2 * 9 + 10 * 128,)


def test_a_program_for_other_images_is_told_in_one_line(plain, tmp_path):
    path = write_program(plain, tmp_path / "a.pt2")
    for options in ({"shape": (3, 8, 8)}, {"shape": (1, 9, 9)}, {"classes": 13}):
        with pytest.raises(ScenarioError, match=r"does not fit|the data has 13 classes") as told:
            build(path, **options)
        assert "\n" not in str(told.value)
    (tmp_path / "text.pt2").write_bytes(b"text")
    with pytest.raises(DataMissing, match="is no exported program"):
        build(tmp_path / "text.pt2")


def test_what_a_file_holds_is_all_there_is_to_say(plain, tmp_path):
    path = write_program(plain, tmp_path / "a.pt2")
    torch.save(plain.state_dict(), tmp_path / "w.pt")
    with pytest.raises(ArenaError, match=r"'a\.pt2' holds its own"):
        take_weights(build(path), tmp_path / "w.pt")
    with pytest.raises(ScenarioError, match="a file takes no parameters, got width"):
        build(path, width=3)
