"""The page of results holds what the lines say, and nothing else."""
import json
import re

import numpy as np
import pytest

from transmamba_mm.evaluation import Predictions
from .transfer import (claims, fault_sections, figures, lines, render,
                       sections, tables)

#: Last accuracy of the first seed; each further seed has 2 points more.
ACCURACY = dict(scratch=70., subclone=71., distill=60., transmamba=82.)


def line(row, value, **changes):
    """Make up a result."""
    return {
        **row.identity(), 'name': row.name,
        'value': value,
        'train_seconds': 40.,
        'wall_seconds': 100.,
        'device_seconds': 50.,
        'joules': None,
        'side_by_side': 2,
        'card': 'a card',
        'config': row.config,
        'commit': 'abc',
        'options': row.options(),
        'curve': [[1, value - 10, 20.], [2, value, 40.]],
        **changes
    }


def results(rows):
    return [line(r, ACCURACY[r.method] + 2 * r.seed) for r in rows]


def taught(method, seed=0, fraction=1., student='vim-tiny-32', **kwargs):
    return tables.taught(student, method, fraction, seed, 2, **kwargs)


def cells(text):
    """Split a Markdown table; the head is left out."""
    return [[c.strip() for c in r.strip('|').split('|')]
            for r in text.splitlines()[2:]]


def pair(*fractions):
    return [
        taught(method, seed, fraction)
        for method, fraction in zip(('scratch', 'transmamba'), fractions)
        for seed in (0, 1)
    ]


def test_claim_compares_all_images_with_three_quarters():
    rows = cells(claims.claim_table(results(pair(1., 0.75))))
    assert rows == [[
        'cifar10 (JPEG copy)', 'accuracy/top1', 'vim-tiny-32', '2',
        '71.00 ± 1.41 (2)', 'vit-tiny-32 (100%)', '83.00 ± 1.41 (2)',
        '**+12.00**'
    ]]
    assert claims.claim_table(results(pair(1., 1.))) == ''


@pytest.mark.parametrize('shift, seeds, words', [
    (0., 2, '12.00 points above scratch with all of it, more than'),
    (-11., 2, '1.00 points above scratch with all of it, which is within'),
    (-20., 2, '8.00 points below scratch with all of it, more than'),
    (0., 1, '12.00 points above scratch with all of it, which one seed'),
])
def test_the_verdict_is_computed(shift, seeds, words):
    found = [
        dict(r, value=r['value'] + shift * (r['method'] == 'transmamba'))
        for r in results(pair(1., 0.75)) if r['seed'] < seeds
    ]
    assert words in claims.verdict(found)
    assert ('spread of 2.00' in claims.verdict(found)) == (seeds > 1)


def test_students_and_methods_are_counted():
    rows = pair(1., 0.75) + [
        taught(m, s, student='vmamba-tiny-32', fraction=f)
        for m, f in (('scratch', 1.), ('transmamba', 0.75)) for s in (0, 1)
    ]
    found = results(rows)
    for r in found[-2:]:
        r['value'] = 71.5
    assert 'more than the seed spread for 1 of 2 students (accuracy' in (
        claims.verdict(found))
    text = claims.verdict(results([taught(m, 0, 0.75) for m in ACCURACY]))
    assert text == (
        '- vim-tiny-32, 75% of cifar10 (JPEG copy), 2 epochs, teacher '
        'vit-tiny-32 (100%): transmamba ends highest, not clearly above '
        'subclone.')


def test_a_difference_is_bold_beyond_the_spread_only():
    first, second = ([dict(value=v) for v in vs]
                     for vs in ((70., 72.), (71., 74.)))
    assert figures.against(second, first) == '+1.50'
    assert figures.against(second, [dict(value=60.)] * 2) == '**+12.50**'
    assert figures.against(second[:1], first[:1]) == '+1.00'
    assert figures.against(second, []) == ''


def test_each_method_is_compared_on_the_same_images():
    rows = [taught(m, s, f) for m in ACCURACY for s in (0, 1) for f in (1, )]
    rows += [taught(m, 0, 0.75) for m in ('distill', 'scratch', 'subclone')]
    rows += [
        taught(m, 0, 0.75, teacher_fraction=0.75)
        for m in ('distill', 'transmamba')
    ]
    rows += [taught(m, 0, 0.5) for m in ('scratch', 'transmamba')]
    whole, part, own = cells(sections.ablation_table(results(rows)))
    assert whole[4:] == [
        '71.00 ± 1.41 (2)', '72.00 ± 1.41 (2) +1.00',
        '61.00 ± 1.41 (2) **-10.00**', '83.00 ± 1.41 (2) **+12.00**'
    ]
    assert part[3:] == [
        'vit-tiny-32 (100%)', '70.00 (1)', '71.00 (1) +1.00',
        '60.00 (1) -10.00', ''
    ]
    assert own[3] == 'vit-tiny-32 (75%)'


def test_variants_stand_beside_the_default():
    rows = [taught('transmamba', s) for s in (0, 1)]
    rows += [taught('transmamba', s, variant='linear') for s in (0, 1)]
    rows += [taught('transmamba', variant='alone'), taught('scratch')]
    found = results(rows)
    for r in found:
        r['value'] += 5 * (r['variant'] == 'linear')
    default, linear = cells(sections.variant_table(found, 'transmamba'))
    assert default[4:] == ['default', '83.00 ± 1.41 (2)', '', '+13.00']
    assert linear[4:] == ['linear', '88.00 ± 1.41 (2)', '**+5.00**', '+18.00']
    assert sections.variant_table(found, 'distill') == ''


def test_teachers_of_other_shapes_are_listed_with_their_accuracy():
    rows = [taught('transmamba', teacher=t) for t in tables.TEACHERS[:2]]
    found = results(rows) + [line(tables.teachers()[2], 91.5)]
    same, deep = cells(sections.shape_table(found))
    assert same[4:6] == ['vit-tiny-32 (100%)', '']
    assert deep[4:] == ['vit-deep-32 (100%)', '91.50', '82.00 (1)', '']
    assert sections.shape_table(found[:1]) == ''


def test_times_are_those_to_shares_of_scratch():
    found = results(pair(1., 0.75))  # scratch ends at 71
    scratch, ours = cells(sections.time_table(found))
    # 63.9: in the last epoch, or the first; 67.45; 71: by one seed alone
    assert scratch[6:] == [
        '40 (2 of 2)', '40 (2 of 2)', '40 (1 of 2)', '40 ± 0 (2)'
    ]
    assert ours[6:9] == ['20 (2 of 2)', '20 (2 of 2)', '20 (2 of 2)']
    slow = [dict(r, value=9., curve=[[2, 9., 40.]]) for r in found[2:]]
    assert cells(sections.time_table(found[:2] + slow))[1][6] == 'not reached'


def test_what_ran_otherwise_is_not_mixed_into_times():
    found = results(pair(1., 1.))
    found += [dict(r, side_by_side=3) for r in found[:3]]
    rows = cells(sections.time_table(found))
    assert [r[2] for r in rows] == ['2', '2', '3', '3']
    found += [dict(r, variant='alone', side_by_side=1) for r in found[:3]]
    rows = cells(sections.time_table(found))
    assert [r[2] for r in rows] == ['1', '1'], 'those alone on a card, if any'


def test_cost_is_told_where_it_was_measured():
    found = results(pair(1., 1.))
    for r in found[:2]:
        r['joules'] = 3.6e6
    scratch, ours = cells(sections.cost_table(found, 0.5))
    assert scratch[5:] == ['50 ± 0 (2)', '3600.0 ± 0.0 (2)', '0.5000']
    assert ours[6:] == ['-', '-']


def test_other_tasks_have_tables_of_their_own():
    found = [
        dict(
            r,
            task='retrieval',
            data='clips',
            metric='to/R@1',
            metrics={
                'to/R@1': 1.,
                'to/chance': r['seed']
            }) for r in results(pair(1., 0.75) + [taught('transmamba')])
    ]
    assert sections.ablation_table(found) == ''
    scratch, ours, part = cells(sections.other_table(found, 'retrieval'))
    assert scratch[-3:] == ['71.00 ± 1.41 (2)', '', 'chance 0.50']
    assert part[-2:] == ['', 'chance 0.50']
    assert ours[-4:] == ['to/R@1', '82.00 (1)', '+11.00', 'chance 0.00']
    (row, ) = cells(claims.claim_table(found))
    assert row[:2] == ['clips', 'to/R@1'] and row[-1] == '**+12.00**'
    assert claims.verdict(found).startswith('- clips: with the teacher')


def keep(path, found, labels):
    """Keep predictions of a row beside the results."""
    targets = [0, 0, 0, 0, 1, 1, 1, 1]
    Predictions(
        np.array(labels), np.full(8, 0.75), np.array(targets),
        np.array(['cat', 'dog'
                  ])).save(lines.predictions_path(str(path), found['name']))


def test_faults_are_those_of_the_predictions(tmp_path):
    path = tmp_path / 'results.jsonl'
    teacher = line(tables.teachers()[0], 75.)
    found = [teacher] + results(
        [taught('scratch'),
         taught('transmamba'),
         taught('distill')])
    keep(path, teacher, [0, 0, 0, 1, 1, 1, 1, 0])
    keep(path, found[1], [1, 1, 0, 0, 1, 1, 1, 1])
    keep(path, found[2], [0, 0, 0, 1, 1, 1, 1, 1])
    own, scratch, ours = cells(fault_sections.fault_table(found, str(path)))
    assert own[0] == 'vit-tiny-32 (100%)' and own[4] == '75.00 (1)'
    assert scratch[2:5] == ['scratch', 'vit-tiny-32 (100%)', '75.00 (1)']
    assert scratch[5] == '0.00 (1)', '75 % sure, 75 % right'
    assert scratch[7:] == ['0.00 (1)', '0.00 (1)', '25.00 (1)']
    assert ours[6:] == ['87.50 (1)', '50.00 (1)', '50.00 (1)', '0.00 (1)']
    (row, ) = cells(fault_sections.class_table(found, str(path)))
    assert row[3:] == ['50.00', '75.00', '+0.00 (dog)', '+25.00 (cat)']


def test_without_predictions_nothing_is_said_of_faults(tmp_path):
    found = [line(tables.teachers()[0], 75.)] + results(pair(1., 1.))
    path = str(tmp_path / 'results.jsonl')
    keep(path, found[0], [0] * 8)
    assert fault_sections.fault_table(found, path) == ''
    assert fault_sections.class_table(found, path) == ''


def made_up():
    """Lines of a whole evening."""
    rows = [
        taught(m, s, f) for m in ('scratch', 'transmamba') for s in (0, 1)
        for f in (0.5, 0.75, 1.)
    ]
    rows.append(taught('distill', 0, 0.75))
    return results(rows) + [line(tables.teachers()[0], 91.)]


def titles(page):
    return re.findall('^## (.*)', page, re.M)


def test_the_page_has_sections_with_data_only(tmp_path):
    path = tmp_path / 'results.jsonl'
    page = render.render(made_up(), str(tmp_path / 'r.md'), str(path))
    assert titles(page) == [
        'What this says', 'Three quarters of the data against all', 'Teachers',
        'Four ways to start and to learn', 'Data curve', 'Time to an accuracy',
        'Cost'
    ]
    pictures = re.findall(r'\]\((\w+\.png)\)', page)
    assert len(pictures) == 2
    assert all((tmp_path / p).stat().st_size > 5000 for p in pictures)
    few = [line(taught('scratch'), 70., device_seconds=None)]
    page = render.render(few, str(tmp_path / 'few' / 'r.md'), str(path))
    assert titles(page) == ['Time to an accuracy']
    assert 'png' not in page


def test_main_figure_goes_between_the_marks(tmp_path, monkeypatch, capsys):
    results_file, readme = tmp_path / 'results.jsonl', tmp_path / 'README.md'
    results_file.write_text('\n'.join(map(json.dumps, made_up())))
    first, last = render.MARKS
    readme.write_text(f'# A\n\n{first}\nstale\n{last}\n\nend\n')
    argv = [
        'render.py', '--results', results_file, '--out', tmp_path / 'r.md',
        '--readme', readme
    ]
    monkeypatch.setattr('sys.argv', list(map(str, argv)))
    render.main()
    text = readme.read_text()
    assert text.startswith(f'# A\n\n{first}\n\n| data') and 'stale' not in text
    assert text.endswith(f'\n\n{last}\n\nend\n')
    assert '**+12.00**' in text and 'reach vit-tiny-32 (100%) 91.00.' in text
    render.main()
    assert readme.read_text() == text
    readme.write_text('no marks')
    render.main()
    assert readme.read_text() == 'no marks'
    assert 'no lines <!-- results -->' in capsys.readouterr().err
    results_file.write_text('')
    with pytest.raises(SystemExit, match='holds no results'):
        render.main()


def test_readme_has_one_place_for_the_main_figure():
    page = (render.ROOT + '/README.md')
    with open(page) as file:
        text = file.read()
    assert [text.count(mark) for mark in render.MARKS] == [1, 1]
