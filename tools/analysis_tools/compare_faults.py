"""Where students are wrong, and which mistakes they have from their teacher.

    python tools/analysis_tools/compare_faults.py \
        --teacher TEACHER_CONFIG TEACHER_CHECKPOINT \
        --student scratch CONFIG CHECKPOINT \
        --student transmamba CONFIG CHECKPOINT

All answer the test images of their config, which must be the same images. In
the place of a config and a checkpoint, a file `predictions.npz` of
SavePredictionsHook will do. The calibration error needs torchmetrics.
"""
import argparse
import json
from typing import Dict, List, Optional, Sequence

from mmengine.config import Config, DictAction

import transmamba_mm  # noqa: F401  (before torchvision is imported)
from transmamba_mm.apis import predict_dataset
from transmamba_mm.evaluation import Predictions, fault_report
from transmamba_mm.utils.atomic_io import atomic_write

ROWS = dict(
    accuracy='accuracy, %',
    ece='calibration error, %',
    agreement="same class as the teacher's, %",
    wrong_too="of the teacher's mistakes, wrong too, %",
    inherited="of the teacher's mistakes, same class, %",
    own_mistakes='wrong where the teacher is right, % of all')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--teacher',
        nargs='+',
        required=True,
        metavar=('CONFIG', 'CHECKPOINT'),
        help='or its predictions.npz')
    parser.add_argument(
        '--student',
        nargs='+',
        action='append',
        required=True,
        metavar=('NAME', 'CONFIG CHECKPOINT'),
        help='or its name and predictions.npz; once for each student')
    parser.add_argument('--device', help='default: the accelerator, or cpu')
    parser.add_argument(
        '--out',
        default='faults.json',
        help='JSON file to write; default: %(default)s')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        help='overrides for all configs, such as '
        'test_dataloader.dataset.data_root=data/mine')
    args = parser.parse_args()
    if len(args.teacher) > 2:
        parser.error('--teacher takes CONFIG CHECKPOINT, or a predictions.npz')
    for student in args.student:
        if len(student) not in (2, 3):
            parser.error('--student takes NAME CONFIG CHECKPOINT, or NAME and '
                         f'a predictions.npz; got {" ".join(student)!r}')
    return args


def answers(files: Sequence[str], args: argparse.Namespace) -> Predictions:
    """Read predictions, or make them."""
    if len(files) == 1:
        return Predictions.load(files[0])
    cfg = Config.fromfile(files[0])
    cfg.merge_from_dict(args.cfg_options)
    return predict_dataset(cfg, files[1], args.device)


def to_text(report: Dict) -> str:
    """Format the figures as a table, a column a model."""
    models = dict(teacher=report['teacher'], **report['students'])
    lines = [['', *models]]
    for key, label in ROWS.items():
        lines.append([label, *(number(m.get(key)) for m in models.values())])
    for k in range(len(report['teacher']['per_class'])):
        name = report['classes'][k] if report['classes'] else k
        lines.append([
            f'accuracy of class {name}, %',
            *(number(m['per_class'][k]) for m in models.values())
        ])
    widths = [max(map(len, column)) for column in zip(*lines)]
    return '\n'.join('  '.join(c.ljust(w) for c, w in zip(line, widths))
                     for line in lines)


def number(value: Optional[float]) -> str:
    """Format a figure that may be missing."""
    return '-' if value is None else f'{value:.2f}'


def main() -> None:
    args = parse_args()
    names: List[str] = [student[0] for student in args.student]
    if len(set(names)) < len(names) or 'teacher' in names:
        raise SystemExit(f'The students need names of their own, got {names}.')
    report = fault_report(
        answers(args.teacher, args), {
            name: answers(files, args)
            for name, *files in args.student
        })
    print(f'{report["images"]} images')
    print(to_text(report))
    if report['teacher']['ece'] is None:
        print('No calibration error: it needs `pip install torchmetrics`.')
    atomic_write(args.out, json.dumps(report, indent=2).encode())
    print(f'Written to {args.out}')


if __name__ == '__main__':
    main()
