"""Forward differences: hand-computed gradients, precision, jumps."""

import pytest
import torch

from agents.learning.zeroth_order import (
    forward_difference,
    full_precision,
    require_full_precision,
    unit_directions,
)
from envs.errors import PlayerError

SHAPE = (3, 4, 4)
D = 48


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_directions_lie_on_the_unit_sphere_and_differ_by_image_and_draw():
    directions = unit_directions(5, torch.zeros(7, *SHAPE), generator=generator())
    assert directions.shape == (5, 7, *SHAPE)
    torch.testing.assert_close(directions.flatten(2).norm(dim=2), torch.ones(5, 7))
    flat = directions.flatten(2).flatten(0, 1)
    assert (flat @ flat.T - torch.eye(35)).abs().max() < 0.9


def test_directions_are_uniform_to_second_moments():
    directions = unit_directions(20_000, torch.zeros(1, 1, 2, 2), generator=generator())
    flat = directions.flatten(1)  # (20000, 4)
    assert flat.mean(0).abs().max() < 0.02
    torch.testing.assert_close(flat.T @ flat / len(flat), torch.eye(4) / 4, atol=0.01, rtol=0)


def test_the_estimate_of_a_linear_loss_converges_to_its_gradient():
    # relative error about sqrt((d - 1) / n) = 5 % at n = 400 d
    slope = torch.randn(D, generator=generator(1), dtype=torch.float64)
    estimate = forward_difference(
        lambda points: points.flatten(1) @ slope,
        torch.zeros(1, *SHAPE, dtype=torch.float64),
        directions=400 * D,
        epsilon=1e-3,
        generator=generator(2),
    )
    error = (estimate.gradient.flatten() - slope).norm() / slope.norm()
    assert error < 0.08


def test_one_difference_has_the_length_d_over_epsilon_by_hand():
    # l(x) = sum x: the difference over u is sum(epsilon u), so g = d * sum(u) * u
    points = torch.zeros(1, 1, 2, 2, dtype=torch.float64)
    u = unit_directions(1, points, generator=generator(3))[0]
    estimate = forward_difference(
        lambda x: x.flatten(1).sum(1), points, directions=1, epsilon=1e-3, generator=generator(3)
    )
    torch.testing.assert_close(estimate.gradient, 4 * u.sum() * u)


def test_all_points_are_evaluated_once_and_together():
    sizes = []

    def loss(points):
        sizes.append(len(points))
        return points.flatten(1).sum(1)

    points = torch.arange(2 * D, dtype=torch.float32).view(2, *SHAPE)
    estimate = forward_difference(loss, points, directions=3, epsilon=1e-3, generator=generator())
    assert sizes == [2 * (3 + 1)]
    assert torch.equal(estimate.losses, points.flatten(1).sum(1))


def test_each_image_gets_the_gradient_of_its_own_loss():
    points = torch.stack([torch.zeros(SHAPE), torch.ones(SHAPE)]).double()
    estimate = forward_difference(
        lambda x: x.flatten(1).square().sum(1) / 2,
        points,
        directions=4_000,
        epsilon=1e-4,
        generator=generator(),
    )
    still, moving = estimate.gradient
    assert still.norm() < 0.01
    assert (moving - 1).norm() / D**0.5 < 0.2


def edge(points):
    """A flat slope with an edge that a few images in a hundred cross."""
    values = points.flatten(1).sum(1)
    return values + 1e3 * (points[:, 0, 0, 0] > 0)


def test_jumps_are_counted_and_can_be_left_out():
    points = torch.full((100, *SHAPE), -1.0, dtype=torch.float64)
    points[:6, 0, 0, 0] = -1e-9  # half of these cross the edge
    kept, dropped = (
        forward_difference(
            edge, points, directions=1, epsilon=1e-3, generator=generator(), drop_jumps=limit
        )
        for limit in (None, 100.0)
    )
    crossed = kept.gradient.flatten(1).norm(dim=1) > 1e4
    assert 1 <= int(crossed.sum()) <= 6
    assert float(kept.jump_share) == pytest.approx(int(crossed.sum()) / 100)
    assert torch.equal(dropped.gradient[~crossed], kept.gradient[~crossed])
    assert float(dropped.gradient[crossed].abs().max()) == 0


def test_a_smooth_loss_has_no_jumps():
    estimate = forward_difference(
        lambda x: x.flatten(1).sum(1) + 1,
        torch.zeros(50, *SHAPE, dtype=torch.float64),
        directions=2,
        epsilon=1e-3,
        generator=generator(),
    )
    assert float(estimate.jump_share) == 0


def difference():
    return forward_difference(
        lambda x: x.flatten(1).sum(1),
        torch.zeros(2, *SHAPE),
        directions=1,
        epsilon=1e-3,
        generator=generator(),
    )


def test_autocast_is_refused():
    with torch.autocast("cpu"), pytest.raises(PlayerError, match="autocast is on"):
        difference()


def test_a_lower_precision_of_matrix_products_is_refused():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")  # TF32 on CUDA
    try:
        with pytest.raises(PlayerError, match="matrix products are set to 'high'"):
            difference()
    finally:
        torch.set_float32_matmul_precision(before)


def test_cudnn_tf32_is_refused_on_cuda_and_switched_off_within_the_block(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    cuda = torch.device("cuda")
    with pytest.raises(PlayerError, match="cuDNN may use TF32"):
        require_full_precision(cuda)
    with full_precision():
        require_full_precision(cuda)
    assert torch.backends.cudnn.allow_tf32


def test_losses_below_float32_are_refused():
    with pytest.raises(PlayerError, match=r"float32 losses, got torch\.bfloat16"):
        forward_difference(
            lambda x: x.flatten(1).sum(1).bfloat16(),
            torch.zeros(2, *SHAPE),
            directions=1,
            epsilon=1e-3,
            generator=generator(),
        )
