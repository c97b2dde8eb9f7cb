"""The command line of ``tools/poc.py``."""
import argparse
import hashlib
import json
import os
import re
from pathlib import Path

from quickstart_parts.data import find_splits

from transmamba_mm.utils.atomic_io import atomic_write
from .tiers import ROOT, TIERS

#: Options that change what a run computes; others may change between starts.
BINDING = ('teacher', 'teacher_fraction', 'teacher_init', 'student', 'size',
           'epochs', 'teacher_epochs', 'amp', 'cfg_options', 'budget')
#: With a budget, the number of runs decides about their length.
BUDGETED = ('fractions', 'scratch_fractions', 'seeds', 'jobs')


def make_parser() -> argparse.ArgumentParser:
    """Make the parser.

    Returns:
        argparse.ArgumentParser: All options.
    """
    parser = argparse.ArgumentParser(
        description='A proof of concept on your images: trains a Mamba from '
        'scratch and by TransMamba, compares them, and writes report.html '
        'and report.json. Start it again to go on after an interruption, or '
        'to render the report anew with other prices.')
    parser.add_argument(
        'data',
        help='folder with one sub-folder of images a class, or with train '
        'and val folders of that form')
    _add_models(parser)
    _add_runs(parser)
    _add_prices(parser)
    return parser


def _add_models(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('models')
    group.add_argument(
        '--teacher',
        nargs='+',
        default=['train'],
        metavar='TEACHER',
        help="'train' (default): a ViT is trained on these images; or FILE, "
        'weights of MMPretrain, timm, official DeiT or open_clip, or a '
        'folder of Hugging Face; or CONFIG CHECKPOINT of MMPretrain')
    group.add_argument(
        '--teacher-fraction',
        type=float,
        help="share of the images that '--teacher train' sees; default: the "
        'first of --fractions, so that the teacher has seen no image that '
        'the student has not')
    group.add_argument(
        '--teacher-init',
        metavar='FILE',
        help="weights that '--teacher train' starts from; 'none' starts from "
        'nothing. Default at 224 pixels: DeiT-small, downloaded')
    group.add_argument(
        '--student',
        choices=sorted(TIERS[32].students),
        default='vim',
        help='family of the student (default vim)')
    group.add_argument(
        '--size',
        type=int,
        choices=sorted(TIERS),
        help='side of the images in pixels; default: by the images')


def _add_runs(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('runs')
    group.add_argument(
        '--fractions',
        nargs='+',
        type=float,
        default=[0.75, 0.5],
        help='shares of the training images that TransMamba sees; the '
        'verdict is about the first one (default 0.75 0.5)')
    group.add_argument(
        '--scratch-fractions',
        nargs='*',
        type=float,
        default=[],
        help='shares that the student from scratch sees beside all images')
    group.add_argument(
        '--seeds', type=int, default=3, help='runs of each kind (default 3)')
    group.add_argument(
        '--epochs', type=int, help="of the students; default: the recipe's")
    group.add_argument(
        '--teacher-epochs', type=int, help="default: the recipe's")
    group.add_argument(
        '--budget',
        type=float,
        metavar='MINUTES',
        help='time for everything: short test runs measure the steps, and '
        'epochs, then seeds, are cut until it fits')
    group.add_argument(
        '--jobs',
        type=int,
        help='trainings side by side; default: one with a card, else one a '
        'core')
    group.add_argument(
        '--amp', action='store_true', help='mixed precision, on a card')
    group.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        help='overrides for all trainings, such as '
        'train_dataloader.num_workers=8')
    group.add_argument(
        '--work-dir', help='default: work_dirs/poc- and the folder\'s name')


def _add_prices(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        'report', 'may change between starts; without prices the report has '
        'hours and images alone')
    group.add_argument('--title', help="default: the folder's name")
    group.add_argument('--currency', default='EUR')
    group.add_argument(
        '--hour-price', type=float, help='of the machine, for training')
    group.add_argument(
        '--image-price', type=float, help='of collecting and labelling one')
    group.add_argument(
        '--serve-hour-price',
        type=float,
        help='of the machine, for predictions; default: --hour-price')
    group.add_argument(
        '--images-per-month', type=float, help='predictions needed')
    group.add_argument(
        '--no-thumbnails',
        action='store_true',
        help='keep your images out of the report')


def parse_args(argv=None) -> argparse.Namespace:
    """Parse and check the command line.

    Args:
        argv (List[str], optional): None takes the process's. Defaults to
            None.

    Returns:
        argparse.Namespace: Checked options.
    """
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.teacher_fraction is None:
        args.teacher_fraction = args.fractions[0]
    for name in ('fractions', 'scratch_fractions', 'teacher_fraction'):
        values = getattr(args, name)
        for value in values if isinstance(values, list) else [values]:
            if not 0 < value <= 1:
                parser.error(f'--{name.replace("_", "-")} {value:g}: a share '
                             'of the images must lie in (0, 1]')
    for name in ('seeds', 'epochs', 'teacher_epochs', 'jobs', 'budget'):
        value = getattr(args, name)
        if value is not None and value <= 0:
            parser.error(f'--{name.replace("_", "-")} {value:g}: it must be '
                         'positive')
    for name in ('hour_price', 'image_price', 'serve_hour_price',
                 'images_per_month'):
        value = getattr(args, name)
        if value is not None and value < 0:
            parser.error(f'--{name.replace("_", "-")} {value:g}: it must not '
                         'be negative')
    if len(args.teacher) > 2:
        parser.error(f'--teacher {" ".join(args.teacher)}: give train, FILE, '
                     'or CONFIG CHECKPOINT')
    if args.teacher_init is not None and args.teacher != ['train']:
        parser.error('--teacher-init goes with --teacher train')
    args.fractions = list(dict.fromkeys(args.fractions))
    args.scratch_fractions = sorted({*args.scratch_fractions, 1.})
    return args


def fingerprint(args: argparse.Namespace) -> dict:
    """Collect what two starts in one work dir must have in common.

    Args:
        args (argparse.Namespace): The options.

    Returns:
        dict: Plain values.
    """
    names = BINDING + (BUDGETED if args.budget is not None else ())
    out = {name: getattr(args, name) for name in names}
    out['teacher'] = [
        os.path.abspath(t) if os.path.exists(t) else t for t in args.teacher
    ]
    return out


def find_work_dir(args: argparse.Namespace) -> Path:
    """Make or find the work dir, and refuse one with other options.

    Args:
        args (argparse.Namespace): The options.

    Returns:
        Path: The folder.

    Raises:
        SystemExit: If it holds runs with other options, or there are no
            images.
    """
    find_splits(Path(args.data).expanduser().resolve())
    told = json.loads(json.dumps(fingerprint(args)))
    folder = Path(args.data).expanduser().resolve()
    digest = hashlib.sha256(json.dumps([str(folder),
                                        told]).encode()).hexdigest()[:6]
    name = f'poc-{re.sub("[^0-9A-Za-z-]", "_", folder.name)}-{digest}'
    work_dir = Path(args.work_dir or ROOT / 'work_dirs' / name).resolve()
    known = work_dir / 'options.json'
    if known.exists():
        before = json.loads(known.read_text())
        other = [k for k in {**told, **before} if told.get(k) != before.get(k)]
        if other:
            names = ', '.join('--' + k.replace('_', '-') for k in other)
            raise SystemExit(
                f'{work_dir} holds runs with other options ({names}); give '
                'another --work-dir, or the old options.')
    else:
        atomic_write(known, json.dumps(told, indent=2).encode())
    return work_dir
