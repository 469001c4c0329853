"""The table of training speeds: what is measured, and where it stands."""

from benchmarks import training_speed
from benchmarks.training_speed import CANDIDATES, Candidate


def test_a_row_tells_costs_and_rates(monkeypatch):
    monkeypatch.setattr(training_speed, "IMAGES", 256)
    name, given, macs, weights, exact, quick, asked = training_speed.line(
        Candidate("resnet10", {"stem_stride": 1, "width": 0.5})
    )
    assert (name, given, macs, weights) == ("resnet10", "stem_stride 1, width 0.5", "4.2", "78,002")
    assert all(float(rate.replace(",", "")) > 0 for rate in (exact, quick, asked))


def test_the_page_has_a_row_for_each_network():
    text = training_speed.PAGE.read_text(encoding="utf-8")
    rows = text.split("<!-- training-speed: begin -->")[1].split("<!--")[0].strip().splitlines()
    names = [row.split("|")[1].strip() for row in rows[2:]]
    assert names == [candidate.network for candidate in CANDIDATES]
