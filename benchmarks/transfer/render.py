"""Turn the results of the transfer tables into docs/results.md and plots.

    python benchmarks/transfer/render.py

Every figure comes from results.jsonl; what is not there is left out.
"""
import argparse
import os.path as osp
from collections import defaultdict
from statistics import mean, stdev
from typing import Callable, Dict, Iterable, List, Optional, Sequence, Tuple

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402
from lines import read_lines  # noqa: E402

HERE = osp.dirname(osp.abspath(__file__))
ROOT = osp.join(HERE, '..', '..')
METHODS = ('scratch', 'subclone', 'distill', 'transmamba')

Line = Dict
Group = Dict[tuple, List[Line]]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--results', default=osp.join(HERE, 'results.jsonl'))
    parser.add_argument('--out', default=osp.join(ROOT, 'docs', 'results.md'))
    parser.add_argument(
        '--kg-co2-per-kwh',
        type=float,
        help="of your electricity; with it, the cards' energy is told as CO2 "
        'too')
    return parser.parse_args()


def group(lines: Iterable[Line], *keys: str) -> Group:
    """Collect the seeds of each combination of keys, in order of coming."""
    out: Group = defaultdict(list)
    for line in lines:
        out[tuple(line[k] for k in keys)].append(line)
    return dict(out)


def spread(lines: Sequence[Line], key: str = 'value') -> str:
    """Format mean, standard deviation and number of seeds."""
    values = [line[key] for line in lines]
    if not values:
        return ''
    if len(values) == 1:
        return f'{values[0]:.2f} (1 seed)'
    return f'{mean(values):.2f} ± {stdev(values):.2f} ({len(values)})'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a Markdown table."""
    lines = [head, ['---'] * len(head), *rows]
    return '\n'.join('| ' + ' | '.join(map(str, r)) + ' |' for r in lines)


def students(lines: List[Line]) -> List[Line]:
    """Leave out the trainings of teachers."""
    return [r for r in lines if r['student'] != 'vit-tiny-32']


def teacher_table(lines: List[Line]) -> str:
    """List the teachers."""
    rows = [(r['student'], f'{r["fraction"]:.0%}', r['epochs'],
             f'{r["value"]:.2f}', f'{r["train_seconds"]:.0f}', r['card'])
            for r in lines if r['student'] == 'vit-tiny-32']
    return table(
        ['teacher', 'images', 'epochs', 'accuracy, %', 'seconds', 'card'],
        rows)


def ablation_table(lines: List[Line]) -> str:
    """Compare the four methods on each student and share of the images."""
    chosen = [r for r in students(lines) if not r['variant']]
    setups = group(chosen, 'student', 'fraction', 'epochs')
    rows = []
    for (student, fraction, epochs), members in setups.items():
        scratch = [r for r in members if r['method'] == 'scratch']
        taught = [r for r in members if r['method'] != 'scratch']
        for (teacher, ), those in group(taught, 'teacher').items():
            cells = [[r for r in those if r['method'] == m]
                     for m in METHODS[1:]]
            rows.append((student, f'{fraction:.0%}', epochs, teacher,
                         spread(scratch), *map(spread, cells)))
    return table(['student', 'images', 'epochs', 'teacher', *METHODS], rows)


def variant_table(lines: List[Line]) -> str:
    """List the variants of each method beside its default."""
    rows = []
    chosen = group(students(lines), 'student', 'method', 'fraction', 'epochs')
    for (student, method, fraction, epochs), members in chosen.items():
        variants = group(members, 'variant')
        if len(variants) < 2:
            continue
        for (variant, ), those in variants.items():
            rows.append((student, method, f'{fraction:.0%}', epochs, variant
                         or 'default', spread(those)))
    return table(
        ['student', 'method', 'images', 'epochs', 'variant', 'accuracy, %'],
        rows)


def seconds_to(lines: Sequence[Line], target: float) -> List[float]:
    """Seconds of training until an accuracy was first measured."""
    out = []
    for line in lines:
        times = [s for _, value, s in line['curve'] if value >= target]
        out.extend(times[:1])
    return out


def time_table(lines: List[Line]) -> str:
    """Compare the time to scratch's last accuracy, the teacher included."""
    chosen = [r for r in students(lines) if not r['variant']]
    rows = []
    for (student, epochs), members in group(chosen, 'student',
                                            'epochs').items():
        whole = [
            r for r in members
            if r['method'] == 'scratch' and r['fraction'] == 1.
        ]
        if not whole:
            continue
        target = mean(r['value'] for r in whole)
        for (method, fraction,
             teacher), those in group(members, 'method', 'fraction',
                                      'teacher').items():
            times = seconds_to(those, target)
            rows.append(
                (student, epochs, f'{target:.2f}', method, f'{fraction:.0%}',
                 teacher or '-', f'{len(times)} of {len(those)}',
                 f'{mean(times):.0f}' if times else '-',
                 spread(those, 'train_seconds')))
    return table([
        'student', 'epochs', 'target, %', 'method', 'images', 'teacher',
        'seeds that reach it', 'seconds to it', 'seconds of all epochs'
    ], rows)


def energy_table(lines: List[Line], kg_per_kwh: Optional[float]) -> str:
    """Tell the cost of the trainings where the card counts its energy."""
    rows = []
    counted = [r for r in lines if r.get('joules')]
    for (student, method, fraction,
         epochs), those in group(counted, 'student', 'method', 'fraction',
                                 'epochs').items():
        joules = mean(r['joules'] for r in those)
        co2 = '-'
        if kg_per_kwh is not None:
            co2 = f'{joules / 3.6e6 * kg_per_kwh:.4f}'
        rows.append((student, method, f'{fraction:.0%}', epochs,
                     spread(those,
                            'train_seconds'), f'{joules / 1e3:.1f}', co2))
    return table(
        ['student', 'method', 'images', 'epochs', 'seconds', 'kJ', 'kg CO2'],
        rows)


def plot_curve(lines: List[Line], path: str) -> bool:
    """Draw accuracy over the share of the images."""
    chosen = [r for r in students(lines) if not r['variant']]
    drawn = False
    for (student, method, teacher,
         epochs), members in group(chosen, 'student', 'method', 'teacher',
                                   'epochs').items():
        points = group(members, 'fraction')
        if len(points) < 3:
            continue
        xs = sorted(f for f, in points)
        ys = [[r['value'] for r in points[(x, )]] for x in xs]
        errors = [stdev(y) if len(y) > 1 else 0. for y in ys]
        plt.errorbar([100 * x for x in xs],
                     list(map(mean, ys)),
                     yerr=errors,
                     marker='o',
                     capsize=3,
                     label=f'{student}, {method}, {epochs} epochs')
        drawn = True
    if drawn:
        plt.xlabel('training images, %')
        plt.ylabel('accuracy, %')
        plt.grid(alpha=0.3)
        plt.legend()
        plt.savefig(path, dpi=120, bbox_inches='tight')
    plt.close()
    return drawn


def conditions(lines: List[Line]) -> str:
    """Say on what all this was measured."""

    def listed(key: str) -> str:
        return ', '.join(sorted({str(r[key]) for r in lines}))

    return (f'Data: {listed("data")}. Cards: {listed("card")}. Commits: '
            f'{listed("commit")}. Trainings side by side on a card: '
            f'{listed("side_by_side")}, which the seconds include. Accuracy '
            'is that of the last epoch on the test images; no checkpoint was '
            'selected. Mean ± standard deviation (seeds).')


def render(lines: List[Line],
           out: str,
           kg_per_kwh: Optional[float] = None) -> str:
    """Put the page together.

    Returns:
        str: Markdown.
    """
    sections: List[Tuple[str, Callable[[List[Line]], str]]] = [
        ('Teachers', teacher_table),
        ('Four ways to start and to learn', ablation_table),
        ('Variants', variant_table),
        ('Time to the accuracy of scratch', time_table),
        ('Energy', lambda rows: energy_table(rows, kg_per_kwh)),
    ]
    parts = [
        '# Results',
        conditions(lines),
        'Made by `python benchmarks/transfer/render.py` from '
        '`benchmarks/transfer/results.jsonl`; each row is one '
        '`tools/train.py` of the config that its line names.'
    ]
    for title, make in sections:
        text = make(lines)
        if text.count('\n') > 1:
            parts += [f'## {title}', text]
    picture = osp.join(osp.dirname(out), 'data_curve.png')
    if plot_curve(lines, picture):
        parts += ['## Data curve', '![accuracy over data](data_curve.png)']
    return '\n\n'.join(parts) + '\n'


def main() -> None:
    args = parse_args()
    text = render(read_lines(args.results), args.out, args.kg_co2_per_kwh)
    with open(args.out, 'w') as file:
        file.write(text)


if __name__ == '__main__':
    main()
