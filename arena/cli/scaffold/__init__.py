"""Makes the folder of a working plug-in (a player, its test and a scenario), or a scenario."""

import keyword
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from string import Template

from arena.registry.catalog import Kind
from arena.registry.players import of
from arena.scenario import shipped
from envs.errors import ArenaError, ScenarioError

_TEMPLATES = Path(__file__).parent / "templates"
_NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")
_LONGEST = 100
_OURS = {"agents", "arena", "envs", "scenarios", "tests"}


def create(kind: Kind, name: str, folder: Path) -> list[Path]:
    """Write a plug-in into `folder`/PACKAGE, PACKAGE being the name as Python writes it.

    Returns:
        the files, the player's own first.

    Raises:
        ScenarioError: the name cannot be a package, or is taken.
        ArenaError: the folder is there already, or cannot be written.
    """
    package = check_name(kind, name)
    target = folder / package
    if target.exists():
        raise ArenaError(f"{target} is there already; nothing was written, choose another name")
    values = {
        "name": name,
        "package": package,
        "cls": "".join(part.capitalize() for part in re.split("[-_]", name)),
        "kind": kind,
        "article": "An" if kind == "attacker" else "A",
    }
    texts = {
        relative: Template(source.read_text(encoding="utf-8")).substitute(values)
        for top in ("common", kind)
        for source in sorted((_TEMPLATES / top).rglob("*.tmpl"))
        for relative in [_destination(source.relative_to(_TEMPLATES / top), package)]
    }
    try:
        written = [_write(target / relative, text) for relative, text in texts.items()]
    except OSError as error:
        raise ArenaError(f"cannot write to {target}: {error.strerror}") from error
    return sorted(written, key=lambda path: (path.stem != kind, path))


def create_scenario(name: str, folder: Path) -> Path:
    """Write a scenario with comments into `folder`/NAME.toml.

    Raises:
        ScenarioError: the name is no plain one, or a shipped scenario has it.
        ArenaError: the file is there already, or cannot be written.
    """
    _require_plain(name, like="my-question")
    if name in shipped():
        raise ScenarioError(f"a scenario '{name}' comes with the arena; choose another name")
    path = folder / f"{name}.toml"
    template = (_TEMPLATES / "scenario.toml.tmpl").read_text(encoding="utf-8")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(Template(template).substitute(name=name))
    except FileExistsError as error:
        raise ArenaError(f"{path} is there already; nothing was written") from error
    except OSError as error:
        raise ArenaError(f"cannot write {path}: {error.strerror}") from error
    return path


def check_name(kind: Kind, name: str) -> str:
    """Return the package's name for a player's, or refuse it."""
    _require_plain(name, like="slow-hunter")
    package = name.replace("-", "_")
    taken = sys.stdlib_module_names | packages_distributions().keys()
    if keyword.iskeyword(package) or package in taken or package in _OURS:
        raise ScenarioError(
            f"a package cannot be called '{package}', Python, the arena or an installed package "
            "is called so; choose another name"
        )
    if name in of(kind).names():
        raise ScenarioError(f"there is {kind} '{name}' already; see 'arena agents {kind}s'")
    return package


def _require_plain(name: str, *, like: str) -> None:
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise ScenarioError(
            f"expected a name of at most {_LONGEST} small letters, digits and single dashes or "
            f"underscores, like {like}, got '{name[:_LONGEST]}{'...' * (len(name) > _LONGEST)}'"
        )


def _destination(template: Path, package: str) -> Path:
    return Path(str(template).removesuffix(".tmpl").replace("PACKAGE", package))


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
