"""The report: table, totals, JSON."""
import json

from .toys import clone, student, teacher


def test_report_says_what_was_done():
    _, _, report = clone(teacher(), student())
    assert f'{report.percent:.1f} %' in report.summary()
    content = json.loads(report.to_json())
    assert content['taken'] == report.taken
    assert 'layers.0.norm1.weight' in report.to_table()


def test_blocks_share_a_line_only_where_they_are_skipped():
    _, _, report = clone(teacher(), student())
    lines = report.to_table().splitlines()
    names = [line.split()[0] for line in lines[1:]]
    assert 'layers.{0-2}.mixer.A_log' in names
    assert {f'layers.{i}.norm.weight' for i in range(3)} < set(names)
    assert len(set(names)) == len(names) < len(report.rows)
    _, _, report = clone(teacher(), student(), first_n=1)
    assert 'layers.{1-2}.norm.weight' in report.to_table()
    assert len(json.loads(report.to_json())['rows']) == len(report.rows)
