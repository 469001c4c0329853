"""Countermeasures as scenarios write them: tables of `post` and `strength`."""

from collections.abc import Iterable, Mapping

from envs.errors import PlayerError
from envs.game.game import Countermeasure

Step = Mapping[str, float]
"""{ post = 1, strength = 0.5 }; `post` is 0 and `strength` 1 where absent."""


def read_step(step: Step, *, where: str, beside: Iterable[str] = ()) -> Countermeasure:
    """Turn a table into a countermeasure.

    Args:
        step: the table.
        where: names it in the message.
        beside: other keys the table may have.

    Raises:
        PlayerError: an unknown key, a post that is no whole number from 0, or a strength that is
            not in [0, 1].
    """
    known = ("post", "strength", *beside)
    unknown = sorted(set(step) - set(known))
    if unknown:
        raise PlayerError(f"{where}: unknown key '{unknown[0]}'; expected {', '.join(known)}")
    post, strength = step.get("post", 0), step.get("strength", 1.0)
    if post < 0 or post != int(post):
        raise PlayerError(f"{where}: expected the number of a post, from 0, got {post}")
    if not 0 <= strength <= 1:
        raise PlayerError(f"{where}: expected a strength from 0 to 1, got {strength}")
    return Countermeasure(int(post), float(strength))


def check_posts(decisions: Iterable[Countermeasure], posts: int) -> None:
    """Refuse a countermeasure at a post that nobody brought.

    Raises:
        PlayerError: with the number of the post and of those there are.
    """
    last = max(decision.post for decision in decisions)
    if last >= posts:
        raise PlayerError(
            f"this defender mans post {last}, but the scenario brought {posts} "
            f"(counted from 0); list more defences or name another post"
        )
