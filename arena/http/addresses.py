"""Addresses of victims elsewhere: what they look like, and whether they are of this machine."""

import ipaddress
import os
import re
from urllib.parse import urlsplit

from envs.errors import DataMissing

_MODEL_PATH = re.compile(r"(/[^\s?#]*)?/v2/models/[^/\s?#]+(/versions/[^/\s?#]+)?/?")


def is_url(use: str) -> bool:
    """Tell whether a `use` is an address."""
    return use.lower().startswith(("http://", "https://"))


def url_fault(use: str) -> str:
    """Say what is wrong with the address of a model; "" for nothing."""
    shown = re.sub(r"//[^/@]*@", "//", use.partition("?")[0])[:100]
    try:
        parts = urlsplit(use)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return f"{shown}: no address"
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        return (f"{shown}: expected an address without user, password and query; name the "
                f"environment variable of an API key with api_key_env")  # fmt: skip
    if not host or len(use) > 200 or not _MODEL_PATH.fullmatch(parts.path):
        return f"{shown}: expected http://HOST:PORT/v2/models/NAME of at most 200 characters"
    return ""


def is_loopback(use: str) -> bool:
    """Tell whether an address is of this machine; names other than localhost are not looked up."""
    host = urlsplit(use).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_key(name: str) -> str:
    """Read an API key out of the environment.

    Raises:
        DataMissing: the variable is not set.
    """
    key = os.environ.get(name, "").strip()
    if not key:
        raise DataMissing(
            f"victim.api_key_env: the environment variable {name} is not set; export {name}=KEY"
        )
    if not key.isascii() or not key.isprintable():
        raise DataMissing(f"victim.api_key_env: the environment variable {name} holds no API key")
    return key
