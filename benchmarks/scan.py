"""Time the scan's back ends, and check them against a float64 oracle.

    python benchmarks/scan.py                      # on a CPU
    python benchmarks/scan.py --device cuda --out benchmarks/results/scan.json

On a CPU the figure is the process's CPU time on ``--threads`` threads (busy
neighbours then matter less than for wall time); all candidates of a case run
in turn, round by round, and the median counts. They are compared with
``loop``, the textbook scan that forms all decays at once and walks over
``unbind`` slices, and the exit code is 1 if ``chunked`` trains less than
``--claim`` times as fast. On a card, times are medians between CUDA events, in
bf16, eager and replayed from a CUDA graph, and are compared with mamba-ssm.
"""
import argparse
import os
import sys
import time
from typing import Dict, List, Optional

import torch
from bench_parts import report
from bench_parts import scan_measures as measures
from bench_parts.bounds import card_rates, shares
from bench_parts.results import ResultFile
from bench_parts.scan_cases import (CARD_CASES, CASES, CPU_CASES, LOOP, Case,
                                    draw_inputs)

from transmamba_mm.ops import SCAN_BACKENDS
from transmamba_mm.ops.selective_scan import ENVIRONMENT_VARIABLE

DTYPES = dict(fp32=torch.float32, bf16=torch.bfloat16, fp16=torch.float16)
FORMS = [(mode, timing) for timing in ('eager', 'graph')
         for mode in ('infer', 'train')]
_NO_FIGURES = dict.fromkeys(
    ('images_per_s', 'latency_ms', 'spread_ms', 'peak_mib', 'copy_share',
     'exp_share', 'max_error', 'l2_error', 'gradient_error'))


def rows_of(label: str, args: argparse.Namespace,
            rates: Dict[str, Optional[float]]) -> List[dict]:
    """Measure a case; a row for each candidate, mode and timing."""
    case, dtype = CASES[label], DTYPES[args.precision]
    names = measures.candidates(case, args.backends, args.loop)
    found = measures.errors_of(
        case.shrunk(*((1, 32) if args.device == 'cpu' else (2, 384))), names,
        args.device, dtype, args.seed)
    inputs = draw_inputs(case, args.device, dtype, args.seed)
    times = measure_times(label, case, names, inputs, args)
    rows = []
    for (name, mode, timing), figures in times.items():
        row = {**_NO_FIGURES, **found[name], **figures}
        if row['latency_ms'] is not None:
            work = measures.work_of(case, inputs, mode == 'train')
            row.update(shares(row['latency_ms'] / 1e3, *work, rates))
        base = times.get((args.baseline, mode, timing), {}).get('latency_ms')
        row['ratio'] = base and row['latency_ms'] and \
            base / row['latency_ms']
        rows.append({**describe(label, name, mode, timing, args), **row})
    return rows


def measure_times(label: str, case: Case, names: List[str], inputs: dict,
                  args: argparse.Namespace) -> Dict[tuple, dict]:
    """Times and memory by candidate, mode and timing."""
    if args.device != 'cpu':
        return {
            (name, *form): figures
            for name in names
            for form, figures in measures.card_times(case, name, inputs, FORMS,
                                                     args.rounds).items()
        }
    times = measures.cpu_times(case, names, inputs, args.rounds)
    memory = {} if args.no_memory else measures.cpu_memory(
        label, names, args.threads)
    return {
        (*key, 'eager'): dict(figures, peak_mib=memory.get(key))
        for key, figures in times.items()
    }


def describe(label: str, name: str, mode: str, timing: str,
             args: argparse.Namespace) -> dict:
    """Everything that a row is told apart by, and the versions."""
    case = CASES[label]
    other = name if name in (LOOP, 'mamba_ssm') else 'ours'
    return dict(
        bench='scan',
        model=label,
        mode=mode,
        timing=timing,
        resolution=None,
        batch=case.batch,
        precision=args.precision,
        implementation=other,
        scan=name,
        shape=[
            case.batch, case.groups, case.channels, case.states, case.length
        ],
        card=report.card_name(args.device),
        **report.versions())


def show(row: dict) -> str:
    """Write one line of the table."""
    name = '{model:<22} {scan:<10} {mode:<5} {timing:<5} '.format(**row)
    if 'error' in row:
        return f'{name}{row["error"]} ({row["where"]})'
    forms = dict(
        latency_ms='9.3f',
        ratio='7.2f',
        max_error='9.1e',
        l2_error='9.1e',
        gradient_error='9.1e',
        peak_mib='8.0f',
        copy_share='7.1%',
        exp_share='7.1%')
    return name + ' '.join(
        format('-', '>' + form.split('.')[0]) if row[key] is
        None else format(row[key], form) for key, form in forms.items())


def judge(rows: List[dict], claim: float) -> int:
    """Print whether ``chunked`` is as fast as claimed; 1 if it is not."""
    ratios = {
        r['model']: r['ratio']
        for r in rows if r['scan'] == 'chunked' and r['mode'] == 'train'
        and r['ratio'] and r['model'] in CPU_CASES
    }
    if not ratios:
        return 0
    slow = [label for label, ratio in ratios.items() if ratio < claim]
    worst = min(ratios, key=ratios.get)
    verdict = f'FAIL on {", ".join(slow)}' if slow else 'PASS'
    print(f'chunked trains (forward + backward) at least {claim:g} times as '
          f'fast as the loop: {verdict} (lowest {ratios[worst]:.2f} on '
          f'{worst})')
    return int(bool(slow))


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Read the command line, and fill in what depends on the device."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--shapes',
        nargs='+',
        choices=list(CASES),
        metavar='CASE',
        help=f'of {", ".join(CASES)}; default: by device')
    add('--backends',
        nargs='+',
        choices=list(SCAN_BACKENDS),
        help='default: those that run on the device')
    add('--device', default='cpu', choices=['cpu', 'cuda'])
    add('--precision',
        choices=DTYPES,
        help='of the inputs; default: fp32 on a CPU, bf16 on a card')
    add('--threads', type=int, default=1)
    add('--rounds', type=int, help='default: 5 on a CPU, 30 on a card')
    add('--minutes', type=float, default=10., help='no case starts later')
    add('--claim', type=float, default=4., help='speed-up to check on a CPU')
    add('--seed', type=int, help='default: new random inputs each time')
    add('--no-memory', action='store_true', help='no peak memory on a CPU')
    add('--out', help='JSON file to add the rows to')
    args = parser.parse_args(argv)
    on_cpu = args.device == 'cpu'
    args.loop = on_cpu
    args.baseline = LOOP if on_cpu else 'mamba_ssm'
    args.shapes = args.shapes or list(CPU_CASES if on_cpu else CARD_CASES)
    args.precision = args.precision or ('fp32' if on_cpu else 'bf16')
    args.rounds = args.rounds or (5 if on_cpu else 30)
    if args.rounds < 2:
        parser.error('--rounds must be at least 2, for a median and a spread')
    if args.backends is None:
        wanted = ('reference', 'chunked') if on_cpu else ('mamba_ssm',
                                                          'triton', 'chunked')
        args.backends = [n for n in wanted if n in SCAN_BACKENDS]
    return args


def main(argv: Optional[List[str]] = None) -> int:
    """Measure, print and save."""
    args = parse_args(argv)
    os.environ.pop(ENVIRONMENT_VARIABLE, None)  # it would go first
    measures.prepare(args.threads)
    start, rates = time.time(), card_rates(args.device)
    print(report.conditions(args, rates))
    print(f'{"case":<22} {"scan":<10} {"mode":<5} {"time":<5} {"ms":>9} '
          f'{"x base":>7} {"max err":>9} {"L2 err":>9} {"grad err":>9} '
          f'{"MiB":>8} {"copy":>7} {"exp":>7}')
    results, rows = ResultFile(args.out), []
    for label in args.shapes:
        if time.time() - start > 60 * args.minutes:
            print(f'out of time before {label}')
            break
        for row in rows_of(label, args, rates):
            print(show(row), flush=True)
            results.add(row)
            rows.append(row)
    return judge(rows, args.claim) if args.loop else 0


if __name__ == '__main__':
    sys.exit(main())
