"""Checks any player: the entry of the conformance suite."""

from collections.abc import Callable, Collection
from typing import cast

from agents.base import Attacker, Defender
from arena.conformance.attackers import check_attacker
from arena.conformance.declaration import check_declaration, class_of
from arena.conformance.defences import check_defence
from arena.conformance.defenders import check_defender
from arena.conformance.findings import Claim
from arena.runner.stopping import STOP
from envs.defences.base import Defence
from envs.errors import one_line

Player = Attacker | Defender | Defence


def check(
    make: Callable[[], Player], *, image_shape: tuple[int, int, int] = (3, 8, 8)
) -> list[Claim]:
    """Check an attacker, a defender or a defence, whichever `make` gives.

    Raises:
        TypeError: it gives neither.
    """
    kind = class_of(make) or type(make())
    try:
        return [*_check(kind, make, image_shape), *check_declaration(kind)]
    except _NotAPlayerError:
        raise
    except BaseException as error:  # a player may fail where no claim looks
        if STOP.caused(error):
            raise
        return [Claim("plays", False, one_line(error)), *check_declaration(kind)]


class _NotAPlayerError(TypeError):
    """What was made is no player."""


def _check(
    kind: type, make: Callable[[], Player], image_shape: tuple[int, int, int]
) -> list[Claim]:
    if issubclass(kind, Attacker):
        return check_attacker(cast(Callable[[], Attacker], make), image_shape=image_shape)
    if issubclass(kind, Defender):
        return check_defender(cast(Callable[[], Defender], make), image_shape=image_shape)
    if issubclass(kind, Defence):
        return check_defence(cast(Callable[[], Defence], make), image_shape=image_shape)
    raise _NotAPlayerError(f"expected an attacker, a defender or a defence, got {kind.__name__}")


def assert_conforms(
    make: Callable[[], Player],
    *,
    image_shape: tuple[int, int, int] = (3, 8, 8),
    except_for: Collection[str] = (),
) -> None:
    """Fail a test if a player breaks a claim of the suite.

    Args:
        make: gives a fresh player; a class will do, or a `partial` with its parameters.
        image_shape: (channels, height, width), for players that need other images.
        except_for: claims to leave out, by name.

    Raises:
        AssertionError: names every broken claim.
    """
    broken = [
        finding
        for finding in check(make, image_shape=image_shape)
        if not finding.passed and finding.name not in except_for
    ]
    if broken:
        lines = "\n".join(f"  {finding.name}: {finding.detail}" for finding in broken)
        raise AssertionError(f"breaks {len(broken)} claims of the conformance suite:\n{lines}")
