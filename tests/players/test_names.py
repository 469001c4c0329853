"""What guides and templates import for authors of players is offered in one place."""

import re
from pathlib import Path

import agents

ROOT = Path(__file__).parents[2]
PLACES = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("arena/cli/scaffold/**/*")]
IMPORT = re.compile(r"from agents import ([\w, ]+)")


def test_every_name_that_guides_and_templates_import_is_offered():
    texts = [
        path.read_text(encoding="utf-8")
        for path in PLACES
        if path.suffix in (".md", ".tmpl", ".py", ".txt")
    ]
    lines = [found for text in texts for found in IMPORT.findall(text)]
    named = {name.strip() for line in lines for name in line.split(",")}
    assert named >= {"Attacker", "Defender", "Kit", "Oracle"}
    assert named <= set(agents.__all__)


def test_every_offered_name_is_there():
    assert all(hasattr(agents, name) for name in agents.__all__)
