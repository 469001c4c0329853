"""The page on victims behind HTTP is executed as it stands: two scenarios, a server, an attack."""

import tomllib
from io import BytesIO
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

httpx = pytest.importorskip("httpx")
fastapi = pytest.importorskip("fastapi")

from arena.cli import serve  # noqa: E402
from arena.cli.app import app  # noqa: E402
from arena.log.store import Log  # noqa: E402
from arena.scenario.schema_parts import VictimSpec  # noqa: E402
from arena.scenario.settings import HOW_ASKED  # noqa: E402
from envs.nets import registry  # noqa: E402
from tests.match.http.conftest import running  # noqa: E402

PAGE = (Path(__file__).parents[3] / "docs" / "remote_victim.md").read_text(encoding="utf-8")
PORT = "8151"
QUICK = ["--set", "victim.recipe.epochs=1", "--set", "seeds=[0]"]


def blocks(language):
    """Return the code blocks of a language."""
    return [part.split("```")[0] for part in PAGE.split(f"```{language}\n")[1:]]


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """The reader's folder, with the files of the page."""
    for text in blocks("toml") + blocks("python"):
        (tmp_path / text.splitlines()[0].removeprefix("# ")).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARENA_LOG", str(tmp_path / "arena.db"))
    return tmp_path


def at(port, *files):
    """Let the page's files name a port that is free here."""
    for file in files:
        file.write_text(file.read_text().replace(PORT, port).replace("8152", port))


def invoke(line, *more):
    arena, *words = line.split()
    assert arena == "arena"
    told = CliRunner().invoke(app, [*words, *more])
    assert told.exit_code == 0, told.output
    return told.output


def clone_file():
    clone = registry.build(
        "mlp-small", num_classes=10, image_shape=(1, 8, 8), generator=torch.Generator()
    )
    written = BytesIO()
    torch.save(clone.state_dict(), written)
    return written.getvalue()


def test_the_page_leads_from_a_served_victim_to_an_attack_and_a_scored_clone(desk, monkeypatch):
    (serving,), attack, (hand_over,) = (text.splitlines() for text in blocks("sh"))
    export, *commands = attack
    assert export == "export VICTIM_KEY=..."
    scores = []

    def client(web, listening):
        listening.close()
        with running(web) as url:
            at(url.rpartition(":")[2], desk / "attack.toml")
            for line in commands:
                words = ["--no-figure"] if line.startswith("arena run") else []
                scores.append(invoke(line, *words))
            address = hand_over.split()[-1].replace(f"127.0.0.1:{PORT}", url.partition("//")[2])
            key = {"Authorization": f"Bearer {keys[0]}"}
            scores.append(httpx.post(address, content=clone_file(), headers=key).json())

    keys = ["eves-key"]
    monkeypatch.setenv("VICTIM_KEY", keys[0])
    monkeypatch.setattr(serve.secrets, "token_urlsafe", lambda length: keys[0])
    monkeypatch.setattr(serve, "_run", client)
    told = invoke(serving.replace(PORT, "0"), *QUICK)
    with Log.open(desk / "arena.db") as log:
        theirs, ours = sorted(log.episodes(), key=lambda row: row.attacker)
    assert (theirs.attacker, theirs.kind, theirs.queries_used) == ("eve", "served", 500)
    assert (ours.attacker, ours.status, ours.queries_used) == ("noise", "success", 500)
    assert ours.answer_digest == theirs.answer_digest
    assert scores[-1]["clone_accuracy"] == theirs.clone_accuracy
    assert "eve used 500 of 2,000 queries" in told
    assert keys[0] not in (desk / "arena.db").read_bytes().decode("latin-1")


def test_the_client_of_the_page_asks_another_protocol(desk, monkeypatch):
    monkeypatch.setenv("VICTIM_KEY", "its-key")
    counted = []
    web = fastapi.FastAPI()

    @web.post("/predict")
    async def predict(request: fastapi.Request):
        assert request.headers["X-Key"] == "its-key"
        pictures = (await request.json())["pictures"]
        counted.append(len(pictures))
        return [{"scores": [0.1] * 10} for _ in pictures]

    with running(web) as url:
        at(url.rpartition(":")[2], desk / "other.toml")
        invoke("arena run other.toml --no-figure")
    with Log.open(desk / "arena.db") as log:
        (row,) = log.episodes()
    assert row.queries_used == sum(counted) == 500


def test_the_page_names_every_key_of_a_victim_elsewhere():
    for name in (*HOW_ASKED, "use", "architecture"):
        assert f"| `{name}` |" in PAGE
        assert name in VictimSpec.model_fields
    for text in blocks("toml"):
        tomllib.loads(text)
