"""Time the backbones against DeiT and the official implementations.

    python benchmarks/backbones.py --official FOLDER --minutes 20

FOLDER holds checkouts under the names that ``git clone`` gives them: Vim,
VideoMamba, PlainMamba, VMamba. A row that fails says why, and the run goes on.
The most important rows come first, each is written at once, and the same
command later measures what is missing; after a change of the code, ``--fresh``
measures all again. ``--list`` prints the rows; ``--rows
'vim-tiny/*/infer/*'`` picks some. On a card, times are medians between CUDA
events. Training is the forward pass, cross-entropy and the backward pass.
"""
import argparse
import contextlib
import gc
import os
import sys
import time
from collections import OrderedDict
from pathlib import Path
from typing import List, Optional

import torch
from bench_parts import report
from bench_parts.bounds import card_rates, shares, step_work
from bench_parts.models import MODELS, build
from bench_parts.official import keep_orders_on
from bench_parts.plan import RESOLUTIONS, Row, plan
from bench_parts.results import KEYS, ResultFile, failure
from mmengine.logging import MMLogger

from transmamba_mm.ops import SCAN_BACKENDS, get_scan_backend
from transmamba_mm.ops.selective_scan import ENVIRONMENT_VARIABLE
from transmamba_mm.utils.benchmark import measure_speed
from transmamba_mm.utils.cuda_graph import capture

DTYPES = dict(fp32=torch.float32, bf16=torch.bfloat16)
OUT = Path(__file__).resolve().parent / 'results/backbones.json'
#: What an official row was given that the official code lacks.
ORDERS_NOTE = 'order tables kept on the card, unlike the official code'


class Models:
    """The last models built, kept on the CPU while others are timed.

    Args:
        args (argparse.Namespace): The command line.
        size (int): How many are kept. Defaults to 20.
    """

    def __init__(self, args: argparse.Namespace, size: int = 20) -> None:
        self.args = args
        self.size = size
        self.kept = OrderedDict()

    def get(self, row: Row) -> torch.nn.Module:
        """Build a row's model, or take the one built before."""
        key = row.model, row.implementation, row.resolution
        model = self.kept.pop(key, None)
        if model is None:
            model = build(*key, self.args.backend, self.args.official)
        if row.implementation == 'official' and row.timing == 'graph' and \
                keep_orders_on(model, self.args.device):
            return model  # of no use to the eager rows
        self.kept[key] = model
        while len(self.kept) > self.size:
            self.kept.popitem(last=False)
        return model


def describe(row: Row, args: argparse.Namespace) -> dict:
    """Everything that a row's result is told apart by, and the versions."""
    probe = torch.zeros(1, device=args.device, dtype=DTYPES[args.precision])
    scan = dict(
        deit=None,
        official=None,
        mamba_ssm='mamba_ssm',
        ours=args.backend or get_scan_backend(probe))
    return dict(
        bench='backbones',
        model=row.model,
        mode=row.mode,
        timing=row.timing,
        resolution=row.resolution,
        batch=row.batch,
        precision=args.precision,
        implementation=row.implementation,
        scan=scan[row.implementation],
        card=report.card_name(args.device),
        **report.versions())


def run_row(row: Row, models: Models, args: argparse.Namespace,
            rates: dict) -> dict:
    """Measure a row.

    Args:
        row (Row): What to measure.
        models (Models): Where its model comes from.
        args (argparse.Namespace): The command line.
        rates (dict): Of ``card_rates``.

    Returns:
        dict: ``images_per_s``, ``latency_ms``, ``spread_ms``, ``peak_mib``,
        ``copy_share`` and ``exp_share``, all None where it failed; ``error``
        and ``where`` tell why, ``note`` what is unusual.
    """
    result = dict.fromkeys(('images_per_s', 'latency_ms', 'spread_ms',
                            'peak_mib', 'copy_share', 'exp_share'))
    model = None
    try:
        model = models.get(row)
        result.update(
            measure_speed(
                model, (row.batch, 3, row.resolution, row.resolution),
                args.device,
                DTYPES[args.precision],
                warmup=args.warmup,
                repeats=args.repeats,
                train=row.mode == 'train',
                cuda_graph=row.timing == 'graph',
                max_seconds=args.row_seconds))
    except Exception as error:
        result.update(failure(error))
    else:
        work = step_work(MODELS[row.model].work(row.resolution),
                         row.mode == 'train')
        seconds = 1 / result['images_per_s']
        result.update(shares(seconds, *work, rates))
    if (row.model, row.implementation, row.timing) == ('plainmamba-l1',
                                                       'official', 'graph'):
        result['note'] = ORDERS_NOTE
    release(model)
    return result


def release(model: Optional[torch.nn.Module]) -> None:
    """Free the card of a model and of what a failure left."""
    try:
        if model is not None:
            model.to('cpu').zero_grad()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    except RuntimeError:
        pass  # the process is about to be replaced


def needs_restart(row: Row, result: dict, args: argparse.Namespace) -> bool:
    """Tell whether a failure may have left CUDA in disorder."""
    error = result.get('error')
    if error is None or torch.device(args.device).type != 'cuda':
        return False
    broken = error.startswith('OutOfMemory') or 'recorded as a CUDA' in error
    return row.timing == 'graph' and broken or not cuda_works()


def cuda_works() -> bool:
    """Try a kernel, a random number and a graph."""
    try:
        x = torch.ones(8, device='cuda')
        graph, y = capture(lambda: x + torch.rand_like(x))
        graph.replay()
        return bool(y.isfinite().all())
    except RuntimeError:
        return False


def restart(args: argparse.Namespace) -> None:
    """Replace this process by a fresh one that goes on."""
    print('a failure may have left CUDA in disorder: going on in a fresh '
          'process')
    sys.stdout.flush()
    sys.stderr.flush()
    for name in os.listdir('/dev/fd'):
        if int(name) > 2:
            with contextlib.suppress(OSError):  # closed by now
                os.set_inheritable(int(name), False)  # frees the card
    command = [sys.executable, *sys.argv, '--resume']
    command += ['--deadline', f'{args.deadline:.0f}']
    command += ['--backend', args.backend] if args.backend else []
    os.execv(sys.executable, command)


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--official', help='folder of the official checkouts')
    add('--backend',
        choices=[*SCAN_BACKENDS],
        help="scan of the rows 'ours'; default: the best for the device")
    add('--minutes', type=float, default=20., help='no row starts later')
    add('--rows',
        nargs='+',
        default=['*'],
        metavar='PATTERN',
        help='model/implementation/mode/timing/resolution/bBATCH')
    add('--list', action='store_true', help='print the rows and leave')
    add('--retry', action='store_true', help='measure failed rows again')
    add('--fresh', action='store_true', help='forget the rows in --out')
    add('--resolutions', type=int, nargs='+', default=list(RESOLUTIONS))
    add('--batch', type=int, help='default: by resolution')
    add('--precision', choices=DTYPES, default='bf16', help='by autocast')
    add('--warmup', type=int, default=3)
    add('--repeats', type=int, default=20)
    add('--row-seconds',
        type=float,
        default=4.,
        help='slow rows are repeated less often, to take about this long')
    add('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    add('--threads', type=int, help='threads on a CPU')
    add('--out', default=str(OUT), help='results, also those of older runs')
    add('--plot', help='picture to write; default: beside the results')
    add('--deadline', type=float, help=argparse.SUPPRESS)
    add('--resume', action='store_true', help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.repeats < 2:
        parser.error('--repeats must be at least 2, for a median and a spread')
    if args.deadline is None:
        args.deadline = time.time() + 60 * args.minutes
    return args


def is_done(row: dict, results: ResultFile, again: set) -> bool:
    """Tell whether a row was measured, or has failed for good."""
    old = results.find(row)
    return old is not None and not ('error' in old
                                    and tuple(str(row.get(k))
                                              for k in KEYS) in again)


def measure_all(rows: List[Row], args: argparse.Namespace) -> ResultFile:
    """Measure what is missing, and write every row at once."""
    results = ResultFile(args.out, args.fresh and not args.resume)
    failed = [r for r in results.rows if 'error' in r]
    again = {tuple(str(r.get(k)) for k in KEYS) for r in failed}
    if not args.retry or args.resume:
        again = set()
    models, rates = Models(args), card_rates(args.device)
    print(report.conditions(args, rates))
    if results.rows and not args.resume:
        print(f'{len(results.rows)} rows of {args.out} are kept; --fresh '
              'measures them again')
    print(report.head(), flush=True)
    for i, row in enumerate(rows):
        described = describe(row, args)
        if is_done(described, results, again):
            continue
        if time.time() > args.deadline:
            print(f'out of time, {len(rows) - i} rows not looked at; the same '
                  'command goes on here')
            break
        result = {**described, **run_row(row, models, args, rates)}
        result['ratio_to_deit'] = report.ratio_to(results, result, 'deit',
                                                  MODELS[row.model].deit)
        results.add(result)
        print(report.line(row.name, result), flush=True)
        if needs_restart(row, result, args):
            restart(args)
    return results


def main(argv: Optional[List[str]] = None) -> int:
    """Plan, measure, print and draw."""
    args = parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    MMLogger.get_instance('backbones', log_level='WARNING')
    # it would go before the choice of a row
    forced = os.environ.pop(ENVIRONMENT_VARIABLE, None)
    args.backend = args.backend or forced
    is_cuda = torch.device(args.device).type == 'cuda'
    rows = plan(args.resolutions, args.batch, is_cuda, bool(args.official),
                args.rows)
    if args.list:
        print('\n'.join(row.name for row in rows))
        return 0
    if not is_cuda:
        print('no CUDA graphs without a card: eager rows only')
    results = measure_all(rows, args)
    print(report.table(results))
    report.plot(results, args.plot or str(Path(args.out).with_suffix('.png')))
    return 0


if __name__ == '__main__':
    sys.exit(main())
