"""What benchmarks leave has one format, and the page that is drawn from it is up to date."""

import json
from dataclasses import replace

import pytest

from bench.check import Check
from bench.headlines import BENCHMARKS, headlines
from bench.over_versions import PAGE, TITLES, page
from bench.record import RESULTS, Figure, Record, all_records, beside, newest, path_of

RECORDS = all_records(RESULTS)
MACHINE = {"date": "2026-01-02", "cpu": "a", "cores": 2, "packages": {"ae-search": "0.9.0"}}


def record_of(version, *figures, checks=()):
    machine = {"cpu": "a", "cores": 2, "packages": {"ae-search": version}}
    return Record("train", version, "2026-01-02", machine, list(figures), list(checks), {"runs": 3})


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: f"{record.name} {record.version}")
def test_each_record_lies_where_its_name_says_and_has_the_figures_that_are_followed(record):
    path = path_of(record.name, record.version)
    assert json.loads(path.read_text(encoding="utf-8")) == json.loads(record.as_json())
    followed = replace(record, figures=headlines(record.name, record.details))
    assert json.loads(followed.as_json())["figures"] == json.loads(record.as_json())["figures"]
    assert record.figures
    for figure in record.figures:
        assert (figure.peer is None) == (figure.ratio is None)
    assert len({figure.name for figure in record.figures}) == len(record.figures)


def test_every_benchmark_has_a_place_on_the_page():
    assert BENCHMARKS.keys() == TITLES.keys()
    assert {record.name for record in RECORDS} >= {"client", "images", "index", "latents", "train"}


def test_the_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == page(RECORDS), "run `make figures`"


def test_what_a_benchmark_has_in_memory_is_what_is_read_again(tmp_path):
    checks = [Check("speed", 2.0, 1.0, "s").as_dict()]
    results = {"machine": MACHINE, "rows": [1, {"ms": 0.25}], "checks": checks}
    written = Record.of("trust", results, [beside("speed", 3.0, "s", ("theirs", 2.0))])
    path = path_of("trust", "0.9.0", tmp_path)
    path.parent.mkdir()
    path.write_text(written.as_json(), encoding="utf-8")
    assert Record.read(path) == written
    assert Record.read(path).results() == results
    assert written.figures == [Figure("speed", 3.0, "s", "theirs", 1.5)]


def test_the_newest_is_told_by_numbers_not_by_letters(tmp_path):
    for version in ("0.9.0", "0.10.0", "0.2.0"):
        path = path_of("train", version, tmp_path)
        path.parent.mkdir()
        path.write_text(record_of(version).as_json(), encoding="utf-8")
    assert [record.version for record in all_records(tmp_path)] == ["0.2.0", "0.9.0", "0.10.0"]
    assert newest("train", tmp_path).version == "0.10.0"
    assert newest("web", tmp_path) is None


def test_a_file_of_another_format_is_refused(tmp_path):
    path = tmp_path / "train.json"
    path.write_text('{"machine": {}}', encoding="utf-8")
    with pytest.raises(ValueError, match="no record of a benchmark"):
        Record.read(path)


def test_one_version_alone_has_no_line():
    assert "svg" not in (drawn := page([record_of("0.1.0", Figure("fit", 10.0, "s"))]))
    assert "| figure | 0.1.0 | peer | ratio |\n" in drawn


def test_a_line_goes_through_the_versions_that_have_the_figure():
    check = Check("speed", 2.0, 1.0)
    records = [
        record_of("0.1.0", beside("fit", 10.0, "s", ("floor", 5.0)), Figure("old", 1.0)),
        record_of("0.2.0", Figure("new", 2345.6, "MB"), checks=[check]),
        record_of("0.10.0", beside("fit", 30.0, "s", ("floor", 5.0)), Figure("new", 1.25, "MB")),
    ]
    drawn = page(records)
    assert "0.2.0: 2026-01-02, a, 2 cores; 0 of 1 checks passed." in drawn
    assert "| figure | 0.1.0 | 0.2.0 | 0.10.0 | peer | ratio | over versions |" in drawn
    (fit,) = (line for line in drawn.splitlines() if line.startswith("| fit "))
    assert fit.startswith("| fit | 10 s |  | 30 s | floor | 6 |")
    # Ratios 2 and 6: from the lower left to the upper right.
    assert 'points="4.0,20.0 116.0,4.0"' in fit
    (new,) = (line for line in drawn.splitlines() if line.startswith("| new "))
    assert new.startswith("| new |  | 2,346 MB | 1.25 MB |  |  |")
    assert 'points="60.0,4.0 116.0,20.0"' in new
    (old,) = (line for line in drawn.splitlines() if line.startswith("| old "))
    assert "polyline" not in old
    assert 'cx="4.0" cy="12.0"' in old
