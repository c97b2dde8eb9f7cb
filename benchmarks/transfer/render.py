"""Turn the results of the tables into docs/results.md, with plots.

    python benchmarks/transfer/render.py

Every figure comes from results.jsonl and the predictions beside it; a section
without data is left out. The main figure also goes into README.md, between
the lines `<!-- results -->` and `<!-- /results -->`.
"""
import argparse
import os.path as osp
import sys
from typing import List, Tuple

from claims import claim_table, find_claims, verdict
from fault_sections import class_table, fault_table
from figures import Line, label_of
from lines import read_lines
from plots import plot_data_curve, plot_over_time
from retrieval_sections import retrieval_table
from sections import (LEVELS, ablation_table, cost_table, curve_table,
                      other_table, shape_table, teacher_table, time_table,
                      variant_table)

from transmamba_mm.utils.atomic_io import atomic_write

HERE = osp.dirname(osp.abspath(__file__))
ROOT = osp.abspath(osp.join(HERE, '..', '..'))
MARKS = ('<!-- results -->', '<!-- /results -->')
SPREAD = (
    'A cell is mean ± standard deviation (number of seeds). A difference '
    'is one of means; it is bold where it is larger than the seed '
    'spread, the root of the sum of both variances.')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--results', default=osp.join(HERE, 'results.jsonl'))
    parser.add_argument('--out', default=osp.join(ROOT, 'docs', 'results.md'))
    parser.add_argument('--readme', default=osp.join(ROOT, 'README.md'))
    parser.add_argument(
        '--kg-co2-per-kwh',
        type=float,
        default=0.4,
        help='of your electricity; the default, %(default)s, is a round '
        'figure and no measurement')
    return parser.parse_args()


def listed(lines: List[Line], key: str) -> str:
    """Name the values of a key.

    Args:
        lines (List[Line]): Results.
        key (str): The key.

    Returns:
        str: Each once, in order.
    """
    return ', '.join(sorted({str(r[key]) for r in lines}))


def conditions(lines: List[Line], results: str) -> str:
    """Say on what all this was measured, and by which commands.

    Args:
        lines (List[Line]): Results.
        results (str): The file that they come from.

    Returns:
        str: Markdown.
    """
    name = osp.relpath(results, ROOT)
    return '\n'.join([
        f'- Data: {listed(lines, "data")}.',
        f'- Cards: {listed(lines, "card")}; trainings side by side on a card: '
        f'{listed(lines, "side_by_side")}, which their seconds include.',
        f'- Commits: {listed(lines, "commit")}.',
        '- Values are those of the last epoch on the test data; no checkpoint '
        'was selected.',
        f'- Raw lines, one a training, with its config and options: `{name}`.',
        '- Made by `python benchmarks/transfer/run.py ablation`, and so on '
        '(`--help` names the tables), and '
        '`python benchmarks/transfer/render.py`.', f'- {SPREAD}'
    ])


def sections(lines: List[Line], results: str,
             kg_per_kwh: float) -> List[Tuple[str, str, str]]:
    """List all sections, empty ones too.

    Args:
        lines (List[Line]): Results.
        results (str): The file that they come from.
        kg_per_kwh (float): CO2 of a kilowatt-hour.

    Returns:
        List[Tuple[str, str, str]]: Title, what the table shows, the table.
    """
    levels = ', '.join(f'{share:.0%}' for share in LEVELS)
    return [
        ('What this says', '', verdict(lines)),
        ('Three quarters of the data against all',
         'TransMamba on 75% of the data against scratch on all, with a '
         'teacher that saw all of it and one that saw the same 75%.',
         claim_table(lines)),
        ('Teachers', '', teacher_table(lines)),
        ('Four ways to start and to learn',
         'Accuracy in %, and the difference against scratch on the same '
         'images.', ablation_table(lines)),
        ('Data curve', '', curve_table(lines)),
        ('Losses', 'Distillation alone, its variants.',
         variant_table(lines, 'distill')),
        ('Subcloning', 'Subcloning alone, its variants.',
         variant_table(lines, 'subclone')),
        ('Cloned layers and presets',
         'Subcloning and distillation, by what is cloned.',
         variant_table(lines, 'transmamba')),
        ('Teachers of other shapes', '', shape_table(lines)),
        ('Time to an accuracy',
         f'Seconds of training until {levels} of the mean last accuracy of '
         'scratch on all images was first measured (seeds that reach it). '
         "The teacher's forward pass is included, validation and start-up "
         'are not.', time_table(lines)),
        ('Faults', 'In % of the test images; "wrong too" and "same mistake" '
         "in % of the teacher's mistakes. Students from scratch are compared "
         'with a teacher that they have never met: what is above their '
         'figures was passed on.', fault_table(lines, results)),
        ('Classes', 'Means over the seeds, in %.', class_table(lines,
                                                               results)),
        ('Retrieval', 'Text to video, on the test clips.',
         retrieval_table(lines)),
        ('Visual questions', '', other_table(lines, 'vqa')),
        ('Cost', 'Of one training: seconds of the card (where several '
         'trainings share it, each is charged its share), its energy by the '
         f"card's counter, and CO2 at {kg_per_kwh:g} kg/kWh, a figure to set "
         'for your electricity (`--kg-co2-per-kwh`).',
         cost_table(lines, kg_per_kwh)),
    ]


def render(lines: List[Line],
           out: str,
           results: str,
           kg_per_kwh: float = 0.4) -> str:
    """Put the page together, and draw its pictures beside it.

    Args:
        lines (List[Line]): Results.
        out (str): The page's file.
        results (str): The file that the lines come from.
        kg_per_kwh (float): CO2 of a kilowatt-hour. Defaults to 0.4.

    Returns:
        str: Markdown.
    """
    pictures = {
        'Data curve': ('results_data_curve.png', plot_data_curve,
                       'Bars reach from the worst to the best seed.'),
        'Time to an accuracy':
        ('results_time.png', plot_over_time, 'A line is a seed.'),
    }
    parts = ['# Results', conditions(lines, results)]
    for title, intro, text in sections(lines, results, kg_per_kwh):
        if not text:
            continue
        parts += [f'## {title}', *filter(None, [intro]), text]
        name, draw, remark = pictures.get(title, ('', None, ''))
        if draw and draw(lines, osp.join(osp.dirname(out), name)):
            parts.append(f'![{title}]({name})\n\n{remark}')
    return '\n\n'.join(parts) + '\n'


def readme_block(lines: List[Line]) -> str:
    """Put the main figure with its conditions together.

    Args:
        lines (List[Line]): Results.

    Returns:
        str: Markdown, '' without figures.
    """
    claims = find_claims(lines)
    if not claims:
        return ''
    labels = {claim.teacher for claim in claims}
    teachers = {
        label_of(r): f'{label_of(r)} {r["value"]:.2f}'
        for r in lines if label_of(r) in labels
    }
    used = [r for claim in claims for r in claim.scratch + claim.taught]
    return '\n\n'.join([
        claim_table(lines),
        '(Of the test data, after the last epoch. Teachers, with the share of '
        f'the data that they saw, reach {", ".join(teachers.values())}. '
        f'Cards: {listed(used, "card")}. {SPREAD} All tables, times, costs '
        'and faults are in [results](docs/results.md).)'
    ])


def write_block(path: str, text: str) -> None:
    """Replace what stands between the marks of a file.

    Args:
        path (str): Markdown file.
        text (str): What is to stand there.
    """
    with open(path) as file:
        page = file.read()
    first, last = (page.find(mark) for mark in MARKS)
    if not 0 <= first < last:
        print(
            f'{path} has no lines {MARKS[0]} and {MARKS[1]}; the main figure '
            'is not written there',
            file=sys.stderr)
        return
    body = f'\n\n{text}\n\n' if text else '\n'
    page = page[:first + len(MARKS[0])] + body + page[last:]
    atomic_write(path, page.encode())


def main() -> None:
    args = parse_args()
    lines = read_lines(args.results)
    if not lines:
        raise SystemExit(f'{args.results} holds no results; train some by '
                         'python benchmarks/transfer/run.py TABLE')
    text = render(lines, args.out, args.results, args.kg_co2_per_kwh)
    atomic_write(args.out, text.encode())
    write_block(args.readme, readme_block(lines))


if __name__ == '__main__':
    main()
