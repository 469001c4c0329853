"""Claims about benign users' queries."""

import pytest
import torch

from envs.data.images import ImageSet
from envs.game.traffic import BenignTraffic
from envs.seeding import Streams


def numbered(count: int, start: int = 0, side: int = 2) -> ImageSet:
    """Images whose pixels tell their number."""
    pixels = torch.zeros(count, 1, side, side, dtype=torch.uint8)
    pixels[:, 0, 0, 0] = torch.arange(start, start + count).to(torch.uint8)
    labels = torch.arange(count) % 10
    return ImageSet(pixels, labels, 10, "numbered", tuple("0123456789"))


def make(share: float = 0.25, count: int = 50, **options) -> BenignTraffic:
    generator = Streams(5).torch("traffic")
    return BenignTraffic(numbered(count), share=share, generator=generator, **options)


def numbers(requests) -> list[int]:
    drawn = [(request.images[:, 0, 0, 0] * 255).round().int().tolist() for request in requests]
    return [number for part in drawn for number in part]


def play(traffic: BenignTraffic, total: int, batch: int) -> list:
    sizes = [min(batch, total - start) for start in range(0, total, batch)]
    return [request for size in sizes for request in traffic.draw(size)]


@pytest.mark.parametrize("batch", [1, 7, 64, 1000])
def test_the_stream_of_images_does_not_depend_on_how_the_attacker_splits_its_queries(batch):
    assert numbers(play(make(), 1000, batch)) == numbers(play(make(), 1000, 100))


@pytest.mark.parametrize("share", [0.1, 0.25, 1 / 3, 0.5, 0.9])
@pytest.mark.parametrize("batch", [1, 64])
def test_the_share_is_exact_over_time(share, batch):
    attack = 900
    benign = len(numbers(play(make(share), attack, batch)))
    assert benign == int(attack * share / (1 - share) + 1e-9)


@pytest.mark.parametrize("share", [1 - 1e-10, 1 - 1e-6, 0.9999999])
def test_a_share_a_hair_below_all_is_traffic_with_an_end(share):
    traffic = make(share, count=2)
    assert sum(len(request.images) for request in traffic.draw(1)) == 999_999


@pytest.mark.parametrize("share", [1.0, -0.1, float("nan")])
def test_no_such_share_is_refused(share):
    with pytest.raises(ValueError, match="from 0 to below 1"):
        make(share)


def test_a_fraction_of_a_query_is_carried():
    traffic = make(0.25)  # one benign query for three of the attacker's
    assert [len(numbers(traffic.draw(1))) for _ in range(9)] == [0, 0, 1] * 3


def test_no_share_is_no_traffic():
    assert make(0.0).draw(10_000) == []


def test_every_image_comes_once_before_any_comes_again():
    drawn = numbers(make(0.5, count=50).draw(120))
    assert sorted(drawn[:50]) == list(range(50))
    assert drawn[50:100] == drawn[:50]
    assert drawn[:50] != list(range(50))


def test_labels_belong_to_their_images():
    (request,) = make(0.5).draw(40)
    number = (request.images[:, 0, 0, 0] * 255).round().long()
    assert torch.equal(request.labels, number % 10)
    assert request.images.dtype == torch.float32
    assert not request.ood


@pytest.mark.parametrize("batch", [1, 33, 600])
def test_ood_queries_have_their_share_no_label_and_their_own_request(batch):
    requests = play(make(0.5, ood=numbered(20, start=200), ood_share=0.3), 600, batch)
    ood = [request for request in requests if request.ood]
    assert len(numbers(ood)) == 180
    assert all((request.labels == -1).all() for request in ood)
    assert all(number >= 200 for number in numbers(ood))
    assert all((r.labels >= 0).all() for r in requests if not r.ood)
    assert all(number < 200 for number in numbers([r for r in requests if not r.ood]))


def test_ood_queries_are_the_same_however_queries_are_split():
    def ood(batch):
        traffic = make(0.5, ood=numbered(20, start=200), ood_share=0.3)
        return numbers([r for r in play(traffic, 600, batch) if r.ood])

    assert ood(1) == ood(64) == ood(600)


def test_users_take_turns_and_never_carry_the_attackers_number():
    def by_client(batch):
        seen: dict[int, list[int]] = {}
        for request in play(make(0.5, clients=3, session=8), 200, batch):
            seen.setdefault(request.client, []).extend(numbers([request]))
        return seen

    whole = by_client(200)
    assert sorted(whole) == [1, 2, 3]
    assert [len(whole[client]) for client in (1, 2, 3)] == [72, 64, 64]
    assert by_client(1) == by_client(30) == whole


def test_two_seeds_give_two_orders():
    one, two = (
        BenignTraffic(numbered(50), share=0.5, generator=Streams(seed).torch("traffic"))
        for seed in (1, 2)
    )
    assert numbers(one.draw(50)) != numbers(two.draw(50))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 1.0}, "benign share"),
        ({"share": -0.1}, "benign share"),
        ({"ood_share": 0.5}, "no out-of-distribution images"),
        ({"ood": numbered(3), "ood_share": 1.5}, "ood_share"),
        ({"ood": numbered(3, side=4), "ood_share": 0.5}, "load both at one shape"),
        ({"ood": numbered(0), "ood_share": 0.5}, "has none"),
        ({"count": 0}, "has none"),
        ({"clients": 0}, "at least 1 client"),
    ],
)
def test_traffic_that_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)
