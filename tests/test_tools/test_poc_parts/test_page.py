"""The page: its sentences, its figures, and names that are hostile."""
import copy
import re

import pytest
from PIL import Image
from poc_parts import conditions, page, svg

from .report import make_report


def changed(outcome, fraction=0.75):
    report = make_report()
    report['verdict'].update(outcome=outcome, fraction=fraction)
    return report


@pytest.mark.parametrize('outcome, fraction, sentence', [
    ('better', 0.75, 'With 75 % of the images, TransMamba is more accurate'),
    ('open', 0.75, 'from scratch with all of them: no difference shown.'),
    ('worse', 0.75, 'TransMamba stays behind a Mamba trained from scratch'),
    ('open', 1., 'TransMamba with all images and a Mamba from scratch'),
])
def test_headline_says_what_was_found(outcome, fraction, sentence):
    assert sentence in page.headline(changed(outcome, fraction))


def test_subline_holds_the_conditions():
    text = page.subline(make_report())
    assert '97.8 ± 0.3 % against 97.1 ± 0.4 %' in text
    assert 'a difference of +0.7 points' in text
    assert '± 0.9 points (95 %; 3 seeds, 360 validation images)' in text


def test_a_teacher_that_is_worse_is_named():
    report = make_report()
    assert page.warning(report) is None
    report['groups'][0]['accuracy']['mean'] = 70.
    assert 'The teacher (70.0 %) is itself less' in page.warning(report)
    html = page.render(report, [], None).replace('\u00a0', ' ')
    assert '--teacher-epochs' in html
    report['teacher']['trained_here'] = False
    assert 'Fine-tune it' in page.warning(report)


def test_page_is_whole_and_loads_nothing():
    html = page.render(make_report(), [], None)
    assert html.startswith('<!DOCTYPE html>')
    assert html.count('<svg') == 6
    assert not re.findall(r'(?:src|href)="(?!data:|#)', html)
    assert not re.findall(r'url\((?!#)', html)
    assert "default-src 'none'" in html
    assert 'None' not in html and 'nan' not in html
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_names_are_text_and_nothing_else():
    report = make_report()
    name = '<script>alert(1)</script> & $x$ "a"'
    report['classes'][0]['name'] = report['title'] = name
    report['notes'] = [name]
    html = page.render(report, [], None)
    assert '<script' not in html
    assert '&lt;script&gt;alert(1)&lt;/script&gt; &amp; $x$' in html


def test_prices_turn_hours_into_money():
    report = make_report()
    without = page.render(report, [], None)
    assert 'No prices were given' in without and 'EUR' not in without
    report['costs'] = priced(report['costs'])
    html = page.render(report, [], None).replace('\u00a0', ' ')
    assert 'Cost of images and training' in html
    assert 'saved: 142 EUR' in html and '2.00' in html
    assert 'No prices' not in html


def priced(costs):
    costs = copy.deepcopy(costs)
    costs['prices'].update(hour=3., image=.4, serve_hour=3.)
    costs['scratch'].update(data=575., training=2., total=577.)
    costs['transmamba'].update(data=432., training=3., total=435.)
    costs['saving'] = 142.
    return costs


def test_a_teacher_without_head_is_no_obstacle():
    report = make_report()
    report['groups'] = report['groups'][1:]
    for group in report['groups']:
        del group['faults']
    for row in report['classes']:
        row['teacher'] = None
    report['teacher'].update(trained_here=False, fraction=None)
    report['costs']['teacher_seconds'] = 0.
    html = page.render(report, [], None)
    assert html.count('<svg') == 5
    assert 'its mistakes are not known' in html
    assert any('was given' in text for text in conditions.limits(report))


def test_a_run_stopped_before_its_only_validation_is_drawn():
    report = make_report()
    report['groups'][0]['curves'] = [[]]
    report['groups'][1]['curves'][0] = []
    assert page.render(report, [], None).count('<svg') == 6


def test_limits_follow_the_runs():
    report = make_report()
    assert not any('given' in t or 'one seed' in t
                   for t in conditions.limits(report))
    report['teacher']['fraction'] = 1.
    report['seeds'] = 1
    report['notes'].append('Shortened to fit the budget: ...')
    text = ' '.join(conditions.limits(report))
    assert 'one seed' in text
    assert 'has seen 100% of the images, more' in text.replace('\u00a0', ' ')
    assert 'shortened to fit a budget' in text


def test_limits_name_the_missing_comparison():
    report = make_report()
    missing = '--scratch-fractions 0.75'
    assert missing in conditions.limits(report)[1]
    report['groups'].append(dict(kind='scratch', fraction=0.75))
    assert missing not in ' '.join(conditions.limits(report))


def test_many_classes_show_both_ends():
    report = make_report()
    row = report['classes'][0]
    report['classes'] = [
        dict(row, name=f'kind {i:02}', difference=float(i)) for i in range(40)
    ]
    html = page.render(report, [], None)
    drawn = ''.join(re.findall(r'<svg.*?</svg>', html, flags=re.S))
    assert all(f'kind {i:02}' in drawn for i in (0, 9, 30, 39))
    assert 'kind 10' not in drawn and 'kind 29' not in drawn
    assert all(f'kind {i:02}' in html for i in range(40))


def test_figures_follow_the_colours_of_the_page():
    text = svg.draw(
        lambda axes: axes.plot([0, 1], color=svg.PAGE['bad'], label='a'), 'x')
    assert 'var(--bad)' in text and 'var(--ink)' in text
    assert not any(colour in text for colour in svg.PAGE.values())
    assert re.match(r'<svg[^>]*viewBox', text)
    assert not re.match(r'<svg[^>]* width', text)


def test_thumbnails_are_small_and_keep_their_form(tmp_path):
    Image.new('RGBA', (400, 100)).save(tmp_path / 'wide.png')
    Image.new('L', (16, 8)).save(tmp_path / 'small.png')
    sizes = []
    for name in ('wide.png', 'small.png'):
        url = page.thumbnail(tmp_path / name)
        data = url.removeprefix('data:image/png;base64,')
        sizes.append(
            Image.open(page.io.BytesIO(page.base64.b64decode(data))).size)
    assert sizes == [(96, 24), (96, 48)]


@pytest.mark.parametrize('seconds, text', [
    (7.17, '7.2 seconds'),
    (66, '66 seconds'),
    (120, '2.0 minutes'),
    (5400, '1.5 hours'),
    (720000, '200 hours'),
])
def test_durations(seconds, text):
    assert page.duration(seconds) == text


def test_times_side_by_side_have_one_unit():
    assert page.duration(79., 98.) == '1.3 minutes'
    assert page.duration(98., 79.) == '1.6 minutes'
