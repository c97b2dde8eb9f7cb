"""Curves and layer similarities of one or several trainings."""
import argparse
import os.path as osp

import transmamba_mm  # noqa: F401  (before torchvision is imported)
from transmamba_mm.utils.atomic_io import atomic_write
from transmamba_mm.visualization import (draw_curves, draw_similarity,
                                         read_training_log, to_png)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('work_dirs', nargs='+', help='work dirs of the runs')
    parser.add_argument(
        '--names', nargs='+', help='names of the runs; default: folder names')
    parser.add_argument(
        '--metric', help="the validation's metric; default: the first one")
    parser.add_argument(
        '--smoothing',
        type=int,
        default=1,
        help='mean over so many logged training rows')
    parser.add_argument(
        '--out',
        help='folder for curves.png and similarity.png; default: the first '
        'work dir')
    args = parser.parse_args()
    if args.names is not None and len(args.names) != len(args.work_dirs):
        parser.error(f'--names has {len(args.names)} names for '
                     f'{len(args.work_dirs)} work dirs')
    return args


def main() -> None:
    args = parse_args()
    logs = [read_training_log(path) for path in args.work_dirs]
    for log, name in zip(logs, args.names or ()):
        log.name = name
    figures = dict(curves=draw_curves(logs, args.metric, args.smoothing))
    if any(len(log.layers()[1]) for log in logs):
        figures['similarity'] = draw_similarity(logs)
    else:
        print('No similarity.png: no run has logged single layers '
              '(model.distiller.log_layers=True).')
    for name, figure in figures.items():
        path = osp.join(args.out or args.work_dirs[0], f'{name}.png')
        atomic_write(path, to_png(figure))
        print(f'Saved {path}')


if __name__ == '__main__':
    main()
