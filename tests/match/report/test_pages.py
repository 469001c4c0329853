"""The pages of the viewer say what the log says, and an address is all they need."""

import re
import subprocess
import sys
from html import unescape
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy.event import listen

from arena.log.episode_filter import EpisodeFilter
from arena.report.view import episode_table
from arena.report.view.site import Site
from envs.errors import ScenarioError, UnknownName

HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "javascript:alert(1)",
           "a\x1b[31m\x9b2J\u202e", "' hx-get='http://evil'", "{{ 7 * 7 }}")  # fmt: skip


def text_of(site, address):
    """Give the words of a page, tags left out."""
    page = site.answer(*(urlsplit(address).path, urlsplit(address).query))
    assert page.status is HTTPStatus.OK, page.text
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page.text.partition("<main>")[2])).split())


def page_of(site, address):
    return site.answer(*(urlsplit(address).path, urlsplit(address).query)).text


def rows_of(site, address):
    """List the ids in the table, in order."""
    return re.findall(r'name="id" value="(\w+)"', page_of(site, address))


@pytest.fixture(scope="module")
def three(shared_made_up):
    """Episodes of which the second copies best."""
    made_up = shared_made_up
    ids = [
        made_up.play("dfme", "dnf", 0, clone=0.3, plan={"threat": {"budget": 1000}}),
        made_up.play("noise", "dnf", 1, clone=0.9, plan={"threat": {"budget": 3000}}),
        made_up.play("noise", "randp", 2, clone=0.6, status="error", error="boom"),
    ]
    return Site(made_up.log), ids


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("/", [2, 1, 0]),
        ("/?order=asc", [0, 1, 2]),
        ("/?sort=clone_accuracy", [1, 2, 0]),
        ("/?sort=clone_accuracy&order=asc", [0, 2, 1]),
        ("/?sort=attacker", [0, 1, 2]),
        ("/?attacker=noise", [2, 1]),
        ("/?attacker=noise&defender=dnf", [1]),
        ("/?status=error", [2]),
        ("/?seed=0", [0]),
        ("/?q=NOI+rand", [2]),
        ("/?q=dfme+rand", []),
        ("/?q=%25", []),
        ("/?where=threat.budget%3D3000", [1]),
        ("/?where=threat.budget%3D3000&where=seed%3D2", []),
        ("/?q=&attacker=&seed=", [2, 1, 0]),
    ],
)
def test_the_table_is_searched_filtered_and_sorted_by_its_address(three, address, expected):
    site, ids = three
    assert rows_of(site, address) == [ids[place] for place in expected]
    assert f"of {len(expected)}" in text_of(site, address)


def test_an_episode_outside_what_the_site_is_about_is_in_no_table(three, shared_made_up):
    _, ids = three
    site = Site(shared_made_up.log, EpisodeFilter(defender="dnf"))
    assert rows_of(site, "/?attacker=noise") == [ids[1]]
    assert rows_of(site, "/?defender=randp") == []


def test_pages_of_a_table_hold_every_episode_once(made_up, monkeypatch):
    monkeypatch.setattr(episode_table, "ROWS", 2)
    ids = [made_up.play(seed=seed) for seed in range(5)]
    site, address, seen = Site(made_up.log), "/?sort=seed&order=asc", []
    while address:
        seen += rows_of(site, address)
        (*_, address) = (None, *re.findall(r'rel="next" href="([^"]+)"', page_of(site, address)))
        address = address and unescape(address)
    assert seen == ids
    assert "Episodes 5 to 5 of 5" in text_of(site, "/?sort=seed&order=asc&page=3")
    assert "Episodes none of 5" in text_of(site, "/?page=9")


@pytest.mark.parametrize(
    ("asked", "short"),
    [
        ("q=&sort=started&order=desc&scenario=", "/"),
        ("order=desc&sort=clone_accuracy&q=a+b", "/?q=a+b&sort=clone_accuracy"),
        ("sort=attacker&order=desc&page=2", "/?sort=attacker&order=desc&page=2"),
        ("attacker=%3Cb%3E&where=seed%3D1&where=", "/?attacker=%3Cb%3E&where=seed%3D1"),
    ],
)
def test_a_state_of_the_table_has_one_shortest_address(three, asked, short):
    site, _ = three
    found = site.answer("/", asked)
    assert found.address == short
    assert site.answer(*short.partition("?")[::2]).address == short


def test_a_table_that_is_shown_already_is_not_sent_again(made_up):
    site = Site(made_up.log)
    made_up.play("noise")
    shown = re.search(r'"shown": "(\w+)"', page_of(site, "/?q=noise"))[1]
    assert site.answer("/", f"q=noise&shown={shown}").status is HTTPStatus.NO_CONTENT
    made_up.play("noise", "dnf", 7)
    assert site.answer("/", f"q=noise&shown={shown}").status is HTTPStatus.OK


@pytest.mark.parametrize(
    ("address", "error", "said"),
    [
        ("/?sort=clone_acuracy", UnknownName, "did you mean 'clone_accuracy'"),
        ("/?page=0", ScenarioError, "page as a whole number from 1, got '0'"),
        ("/?page=" + "9" * 400, ScenarioError, "page as a whole number"),
        ("/?seed=-1", ScenarioError, "seed as a whole number"),
        ("/?where=threat.budget", ScenarioError, "a setting PATH=VALUE, like threat.budget=3000"),
        ("/?where=threat.bugdet%3D1&seed=77", UnknownName, "did you mean 'threat.budget'"),
        ("/episode/0123456789ab", UnknownName, "no episode named"),
        ("/compare?id=0123456789ab&id=1", UnknownName, "no episode named"),
        ("/compare?id=1", ScenarioError, "expected two episodes to compare, got 1"),
        ("/compare?id=1&id=2&id=3", ScenarioError, "got 3"),
        ("/?" + "q=a&" * 300, ScenarioError, "at most 200 fields"),
    ],
)
def test_an_address_that_says_nothing_is_answered_in_one_line(three, address, error, said):
    site, _ = three
    parts = urlsplit(address)
    with pytest.raises(error, match=re.escape(said)) as raised:
        site.answer(parts.path, parts.query)
    assert "\n" not in str(raised.value)


def alarm(client, attacker):
    return ("alarm", f"client {client} flagged", {"data": {"client": client, "attacker": attacker}})


def setting(*answered):
    return {side: [{"defence": 0, "strength": strength, "first_round": 0, "answered": count}
                   for strength, count in answered] for side in ("attack", "benign")}  # fmt: skip


def test_an_episode_has_its_course_along_the_budget(made_up):
    id = made_up.play(
        clone=0.5,
        events=[alarm(3, True), alarm(4, False), alarm(4, False)],
        exits=(((600, 400), (0, 0)), ((20, 0), (30, 200))),
        countermeasures=(setting((0.5, 500)), setting((0.5, 100), (1.0, 400))),
    )
    site = Site(made_up.log)
    page, said = page_of(site, f"/episode/{id}"), text_of(site, f"/episode/{id}")
    # accuracies 0.25, 0.4 and 0.5 at 250, 500 and 1000 of 1000 queries; a guess gets 0.1
    assert 'class="accuracy" points="250.0,75.0 500.0,60.0 1000.0,50.0"' in page
    assert 'points="0,90.0 1000,90.0"' in page
    assert "defence 1, exit 1 (stage 1): 60.0%" in said
    assert "defence 2, exit 2: 80.0%" in said  # 200 of 250 benign answers
    # flagged after 10 queries, three alarms at two places
    assert page.count('d="M10.0 0v100"') == 2
    assert "1 of the attacker 2 of benign users" in said
    # the second half of the budget: a fifth at half strength
    assert re.search(
        r'x="500.0" y="80.0" width="500.0" height="20.0"><title>defence 1 at 0.5', page
    )
    assert "defence 1 at 1: 40.0%" in said  # of all 1000


def test_what_a_defender_refused_is_drawn_beside_what_it_answered(made_up):
    told = {"attack": [{"defence": 0, "strength": 1.0, "first_round": 0, "answered": 300},
                       {"defence": 0, "strength": 0.5, "first_round": 9, "answered": 0}],
            "attack_refused": 200, "benign_refused": 50}  # fmt: skip
    id = made_up.play(countermeasures=(told, told))
    said = text_of(Site(made_up.log), f"/episode/{id}")
    attack, benign = re.findall(r"Countermeasures to .*?(?=Countermeasures|$)", said)
    assert "at 1: 60.0%" in attack
    assert "refused: 40.0%" in attack
    assert "at 0.5" not in attack  # it answered nothing
    assert "refused: 100.0%" in benign


def test_the_page_of_an_episode_reads_each_table_once(made_up):
    id, read = made_up.play(events=[("note", "half way", {})]), []
    listen(made_up.log.engine, "before_cursor_execute", lambda *sent: read.append(sent[2]))
    Site(made_up.log).answer(f"/episode/{id}", "")
    for table in ("round", "checkpoint", "event"):
        assert sum(re.search(rf"FROM {table}\b", one) is not None for one in read) == 1


def test_the_viewer_starts_without_torch():
    code = "import sys, arena.report.view.site; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_episode_without_rounds_says_so(made_up):
    id = made_up.play(clone=None, curve=(), exits=None, status="error", error="boom")
    said = text_of(Site(made_up.log), f"/episode/{id}")
    assert "The log has no rounds and no checkpoints of it." in said
    assert "boom" in said


def test_two_episodes_stand_side_by_side_with_what_differs(made_up):
    one = made_up.play(
        "dfme",
        seed=0,
        clone=0.3,
        plan={"threat": {"budget": 1000}, "same": 1},
        victim_accuracy=0.9,
        served_accuracy=0.9,
        clone_metrics={"Margin": 0.25},
    )
    other = made_up.play(
        "noise",
        seed=0,
        clone=0.45,
        plan={"threat": {"budget": 3000}, "same": 1},
        victim_accuracy=0.9,
        served_accuracy=0.8,
        clone_metrics={"Margin": 0.5},
    )
    site = Site(made_up.log)
    said = text_of(site, f"/compare?id={one}&id={other}")
    assert re.search(r"attacker dfme noise .*threat.budget 1000 3000 ", said)
    assert "clone accuracy 30.0% 45.0% +15.0" in said
    assert "clone accuracy 45.0% 30.0% \N{MINUS SIGN}15.0" in text_of(
        site, f"/compare?id={other}&id={one}"
    )
    assert "accuracy lost to benign users 0.0 10.0 +10.0" in said
    assert "Margin 0.25 0.5 +0.25" in said
    assert "same 1" not in said
    assert page_of(site, f"/compare?id={one}&id={other}").count('<figure class="chart">') == 6


def test_an_episode_names_its_siblings_and_the_address_of_each_comparison(made_up):
    ids = [made_up.play(seed=seed) for seed in (0, 1)]
    made_up.play("noise")
    page = page_of(Site(made_up.log), f"/episode/{ids[0]}")
    assert [unescape(one) for one in re.findall(r'href="(/compare[^"]*)"', page)] == [
        f"/compare?id={ids[0]}&id={ids[1]}"
    ]


def test_hostile_names_stay_text_on_every_page(made_up):
    ids = [
        made_up.play(name, name, seed, scenario=name, error=name, status="error",
                     named={"data": name}, plan={"note": name, name: seed},
                     inferences=[{"attribute": name, "inferred": name, "truth": name}],
                     events=[(name, name, {}), ("alarm", name, {"data": {"client": name}})])
        for seed, name in enumerate(HOSTILE)
    ]  # fmt: skip
    site = Site(made_up.log)
    addresses = ["/", "/?q=%3Cscript%3Ealert(1)&where=note%3D%22%3E%3Cimg", "/?sort=attacker",
                 *(f"/episode/{id}" for id in ids), f"/compare?id={ids[0]}&id={ids[1]}",
                 f"/compare?id={ids[4]}&id={ids[5]}"]  # fmt: skip
    for address in addresses:
        page = page_of(site, address)
        assert len(re.findall("<script", page)) == 1  # ours
        assert not re.search(r"<img|<b>|(href|src|hx-get|action)\s*=\s*.(javascript|http)", page)
        assert not set(page) & set("\x1b\x9b\u202e")
        assert "49" not in re.findall(r">\s*49\s*<", page)
        links = re.findall(r'(?:href|src|action)="([^"]*)"', page)
        assert all(re.match(r"/(?!/)|\?|data:", unescape(one)) for one in links), links


def test_every_page_works_without_a_script_and_says_what_it_holds(three):
    site, ids = three
    for address in ("/", f"/episode/{ids[0]}", f"/compare?id={ids[0]}&id={ids[1]}"):
        page = page_of(site, address)
        fields = re.findall(r"<(?:input|select)[^>]*>", page)
        named = [one for one in fields if "aria-label" in one or 'type="hidden"' in one]
        labelled = re.findall(r"<label[^>]*>[^<]+<(?:input|select)", page)
        assert len(named) + len(labelled) == len(fields)
        assert page.count("<h1>") == 1
        assert "script-src 'self'" in page
        assert "onclick" not in page


def test_the_library_is_whole_and_comes_with_its_licence():
    folder = Path(episode_table.__file__).parent
    library = (folder / "htmx.min.js").read_text()
    assert 'version:"2.0.' in library
    assert library.startswith("var htmx=function()")
    assert "Zero-Clause BSD" in (folder / "htmx.LICENSE.txt").read_text()
