"""From nothing to a table: teacher, Mamba from scratch, TransMamba.

Trains a small ViT teacher, then two equal Mamba students side by side: one
from scratch on all training images, one that learns from the teacher on 75 %
of them. Every training is an ordinary ``tools/train.py`` run and every
accuracy comes from ``tools/test.py``. A second start resumes what is not
finished.
"""
import argparse
import hashlib
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / 'tools'))

from quickstart_parts import data, report, runs  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        '--data',
        help='folder with one sub-folder of images a class, or with train '
        'and val folders of that form; default: handwritten digits')
    parser.add_argument(
        '--seeds', type=int, default=1, help='number of seeds (default 1)')
    parser.add_argument(
        '--fraction',
        type=float,
        default=0.75,
        help='share of the training images that TransMamba sees '
        '(default 0.75)')
    parser.add_argument(
        '--epochs', type=int, help="default: the recipes' (20)")
    parser.add_argument('--work-dir', help='default work_dirs/quickstart')
    return parser.parse_args()


def default_work_dir(args: argparse.Namespace) -> Path:
    """Name a folder after all that makes the runs differ."""
    name = 'quickstart'
    if args.data is not None:
        folder = Path(args.data).expanduser().resolve()
        digest = hashlib.sha256(str(folder).encode()).hexdigest()[:6]
        name += f'-{re.sub("[^0-9A-Za-z-]", "_", folder.name)}-{digest}'
    if args.fraction != 0.75:
        name += f'-{args.fraction:g}'
    if args.epochs is not None:
        name += f'-{args.epochs}e'
    return ROOT / 'work_dirs' / name


def main() -> None:
    args = parse_args()
    work_dir = Path(args.work_dir or default_work_dir(args)).resolve()
    work_dir.mkdir(parents=True, exist_ok=True)
    task = data.prepare(args.data, work_dir, ROOT / 'data' / 'digits')
    common = dict(task=task, epochs=args.epochs)
    print(f'Data: {task.describe()}', flush=True)

    teacher = runs.Run('teacher', 'ViT teacher', work_dir / 'teacher',
                       **common)
    runs.run_all([teacher])
    students = []
    for seed in range(args.seeds):
        students += [
            runs.Run(
                'scratch',
                f'Mamba from scratch, seed {seed}',
                work_dir / f'scratch_seed{seed}',
                seed=seed,
                **common),
            runs.Run(
                'transmamba',
                f'TransMamba, seed {seed}',
                work_dir / f'transmamba_seed{seed}',
                seed=seed,
                fraction=args.fraction,
                teacher=teacher.checkpoint(),
                **common),
        ]
    runs.run_all(students)

    rows = report.collect([teacher] + students)
    (work_dir / 'results.json').write_text(json.dumps(rows, indent=2))
    print('\n' + report.table(rows))
    plot = report.plot_curves([teacher] + students, work_dir / 'curves.png')
    print(f'\nFigures: {work_dir / "results.json"}\nCurves:  {plot}')


if __name__ == '__main__':
    main()
