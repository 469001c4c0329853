"""Named streams and image-seeded chance."""

import hashlib
import random

import numpy as np
import torch

from envs.seeding import Streams, derive_seed, image_uniforms


def test_streams_are_named_repeatable_and_independent():
    one, two = Streams(7), Streams(7)
    draw = torch.rand(5, generator=one.torch("attacker"))
    torch.rand(100, generator=two.torch("something new"))
    assert torch.equal(draw, torch.rand(5, generator=two.torch("attacker")))
    assert not torch.equal(draw, torch.rand(5, generator=two.torch("defence")))
    assert not torch.equal(draw, torch.rand(5, generator=Streams(8).torch("attacker")))
    assert one.child("victim").integer("a") != one.integer("a")


def test_the_seed_of_a_stream_never_changes_between_versions():
    # fixed by the definition: SHA-256, first 8 bytes, 63 bits
    word = int.from_bytes(hashlib.sha256(b"0/attacker").digest()[:8], "big") & (2**63 - 1)
    assert derive_seed(0, "attacker") == word


def test_streams_leave_global_random_state_alone():
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    streams = Streams(1)
    torch.rand(3, generator=streams.torch("a"))
    streams.numpy("b").random(3)
    image_uniforms(torch.rand(2, 1, 4, 4, generator=streams.torch("c")), key=3)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()
    assert before[2] == random.getstate()


def test_image_chance_repeats_for_an_image_and_changes_with_a_pixel_or_the_key():
    image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    near = image.clone()
    near[0, 0, 0, 0] = (near[0, 0, 0, 0] * 255).round().add(1).remainder(256) / 255
    first = image_uniforms(image, 5, 4)
    assert torch.equal(first, image_uniforms(image.clone(), 5, 4))
    assert not torch.equal(first, image_uniforms(near, 5, 4))
    assert not torch.equal(first, image_uniforms(image, 6, 4))


def test_image_chance_is_uniform_and_uncorrelated():
    batch = torch.rand(20_000, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    draws = image_uniforms(batch, 9, 3)
    assert draws.min() >= 0
    assert draws.max() < 1
    # standard errors: mean 0.289/sqrt(n) = 0.002, correlation 1/sqrt(n) = 0.007
    assert (draws.mean(0) - 0.5).abs().max() < 0.009
    correlations = torch.corrcoef(draws.T) - torch.eye(3, dtype=torch.float64)
    assert correlations.abs().max() < 0.035


def test_image_chance_ignores_differences_below_eight_bits():
    image = torch.full((1, 1, 4, 4), 100 / 255)
    assert torch.equal(image_uniforms(image, 1), image_uniforms(image + 1e-4, 1))
