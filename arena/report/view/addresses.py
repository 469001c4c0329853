"""Reads the fields of an address, and fills in the page they ask for."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from arena.report.html import environment, packaged
from arena.report.live import Found
from envs.errors import ScenarioError, printable

LARGEST = 2**53
"""No number in an address is larger."""


def whole(asked: Mapping[str, list[str]], name: str, default: int, *, least: int = 0) -> int:
    """Read a whole number out of an address.

    Raises:
        ScenarioError: it is none, or too small or large.
    """
    text = asked.get(name, [str(default)])[-1].strip()
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 17 else -1
    if not least <= number <= LARGEST:
        raise ScenarioError(f"expected {name} as a whole number from {least}, got '{text}'")
    return number


def filled(template: str, *, address: str = "", **values: Any) -> Found:  # Any: what it shows
    """Fill in a page of the viewer; control characters of names become blanks."""
    style = Markup(packaged("page.css") + packaged("view/view.css"))
    page = environment().get_template(f"view/{template}")
    return Found(printable(page.render(style=style, **values)), address=address)
