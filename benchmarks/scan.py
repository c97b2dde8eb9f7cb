"""Time, memory and errors of the selective scan's back ends.

On a CPU the clock is process time and rounds are interleaved, so that other
work on the machine disturbs all back ends alike; on a card it is CUDA events.
The baseline is a plain loop over time that unbinds its inputs once (the
``reference`` back end in float32), not a loop that slices in each step, whose
backward is quadratic in the length.
"""
import argparse
import json
import platform
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, List

import torch

from transmamba_mm.ops import selective_scan
from transmamba_mm.ops.selective_scan import BACKENDS

#: name: batch, channels, length, states, groups
SHAPES = {
    'vim-t': (8, 384, 197, 16, 1),
    'vim-t batch 1': (1, 384, 197, 16, 1),
    'plainmamba 4 directions': (2, 4 * 384, 196, 16, 4),
    'vmamba stage 1': (1, 4 * 96, 3136, 1, 4),
    'vmamba stage 4': (8, 4 * 1536, 49, 16, 4),
    'long': (1, 384, 4096, 16, 1),
}
BASELINE = 'reference'
WANTED_SPEED_UP = 4.


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--shapes', nargs='+', choices=SHAPES, default=SHAPES)
    parser.add_argument('--backends', nargs='+', choices=BACKENDS)
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument(
        '--dtype', choices=['float32', 'bfloat16'], default='float32')
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--out', help='file to append JSON lines to')
    parser.add_argument('--memory-of', help=argparse.SUPPRESS)
    return parser.parse_args()


def make_inputs(shape, device: str, dtype: torch.dtype) -> List:
    """Random inputs as a network has them at its start."""
    batch, channels, length, states, groups = shape
    g = torch.Generator().manual_seed(0)

    def randn(*size):
        return torch.randn(*size, generator=g)

    rates = -torch.arange(1., states + 1).repeat(channels, 1)
    tensors = [
        randn(batch, channels, length),
        randn(batch, channels, length) - 4, rates,
        randn(batch, groups, states, length),
        randn(batch, groups, states, length),
        randn(channels),
        randn(batch, channels, length),
        randn(channels)
    ]
    half = (0, 1, 3, 4, 6)  # the others stay in float32
    return [
        t.to(device, dtype if i in half else torch.float32).requires_grad_()
        for i, t in enumerate(tensors)
    ]


def step(inputs: List, backend: str, backward: bool) -> None:
    """Run once."""
    with torch.set_grad_enabled(backward):
        out = selective_scan(*inputs, delta_softplus=True, backend=backend)
    if backward:
        torch.autograd.backward(out, torch.ones_like(out))
        for t in inputs:
            t.grad = None


def seconds(inputs: List, backend: str, backward: bool) -> float:
    """Time one call."""
    if not inputs[0].is_cuda:
        start = time.process_time()
        step(inputs, backend, backward)
        return time.process_time() - start
    events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
    events[0].record()
    step(inputs, backend, backward)
    events[1].record()
    torch.cuda.synchronize()
    return events[0].elapsed_time(events[1]) / 1e3


def largest_error(shape, backend: str, device: str) -> float:
    """Largest error of output and gradients against float64, relative to
    the largest value, on one image in float32."""
    small = (1, *shape[1:])
    results = []
    for name, dtype in ((BASELINE, torch.float64), (backend, torch.float32)):
        inputs = [
            t.detach().to(device, dtype).requires_grad_()
            for t in make_inputs(small, 'cpu', torch.float32)
        ]
        out = selective_scan(*inputs, delta_softplus=True, backend=name)
        torch.autograd.backward(out, torch.ones_like(out))
        results.append([out.detach()] + [t.grad for t in inputs])
    return max(((a.double() - b).abs().max() / b.abs().max()).item()
               for b, a in zip(*results))


def peak_memory(args, shape: str, backend: str) -> float:
    """Memory that a forward and backward adds, in MiB."""
    if args.device == 'cpu':
        # in a process of its own, where nothing else has been freed yet
        command = [
            sys.executable, __file__, '--memory-of', f'{shape}/{backend}',
            '--threads',
            str(args.threads)
        ]
        result = subprocess.run(
            command, capture_output=True, text=True, check=True)
        return float(result.stdout.strip().splitlines()[-1])
    inputs = make_inputs(SHAPES[shape], args.device,
                         getattr(torch, args.dtype))
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step(inputs, backend, True)
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def print_memory(name: str) -> None:
    """Body of the memory process (Linux)."""
    shape, backend = name.split('/')
    inputs = make_inputs(SHAPES[shape], 'cpu', torch.float32)
    tiny = make_inputs((1, 4, 4, 1, 1), 'cpu', torch.float32)
    step(tiny, backend, True)  # libraries and thread pools
    Path('/proc/self/clear_refs').write_text('5')  # forget the peak so far
    before = resident_mib('VmRSS')
    step(inputs, backend, True)
    print(resident_mib('VmHWM') - before)


def resident_mib(field: str) -> float:
    """Read a size of this process."""
    text = Path('/proc/self/status').read_text()
    return int(re.search(rf'{field}:\s+(\d+) kB', text).group(1)) / 1024


def measure(args, shape: str, backends: List[str]) -> List[Dict]:
    """All figures of one shape."""
    inputs = make_inputs(SHAPES[shape], args.device,
                         getattr(torch, args.dtype))
    times = {(b, w): [] for b in backends for w in (False, True)}
    for i in range(args.rounds + 1):  # the first round warms up
        for (backend, backward), spent in times.items():
            value = seconds(inputs, backend, backward)
            if i:
                spent.append(value)
    median = {key: statistics.median(v) for key, v in times.items()}
    return [
        dict(
            bench='scan',
            shape=shape,
            size=SHAPES[shape],
            backend=backend,
            dtype=args.dtype,
            forward_ms=1e3 * median[backend, False],
            training_ms=1e3 * median[backend, True],
            speed_up=median[BASELINE, True] / median[backend, True],
            error=largest_error(SHAPES[shape], backend, args.device),
            peak_mib=peak_memory(args, shape, backend),
            card=torch.cuda.get_device_name() if args.device == 'cuda' else
            f'{platform.machine()} CPU, {args.threads} threads',
            torch=torch.__version__) for backend in backends
    ]


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    if args.memory_of:
        return print_memory(args.memory_of)
    backends = args.backends or [
        b for b in BACKENDS if b != 'mamba_ssm' or args.device == 'cuda'
    ]
    if BASELINE not in backends:
        backends.append(BASELINE)
    rows = []
    print(f'{"shape":24} {"back end":10} {"forward":>9} {"training":>9} '
          f'{"speed-up":>8} {"error":>8} {"memory":>8}')
    for shape in args.shapes:
        for row in measure(args, shape, backends):
            rows.append(row)
            print(
                f'{shape:24} {row["backend"]:10} {row["forward_ms"]:6.1f} ms '
                f'{row["training_ms"]:6.1f} ms {row["speed_up"]:7.1f}x '
                f'{row["error"]:8.1e} {row["peak_mib"]:4.0f} MiB',
                flush=True)
    print(f'{rows[0]["card"]}, torch {torch.__version__}, {args.dtype}, '
          f'median of {args.rounds} interleaved rounds; training is forward '
          'and backward')
    slow = [
        r['shape'] for r in rows
        if r['backend'] == 'chunked' and r['speed_up'] < WANTED_SPEED_UP
    ]
    if args.device == 'cpu':
        verdict = f'missed at {slow}' if slow else 'reached at every shape'
        print(f'chunked at least {WANTED_SPEED_UP:.0f}x faster in training '
              f'than the loop: {verdict}')
    if args.out:
        with open(args.out, 'a') as f:
            f.writelines(json.dumps(row) + '\n' for row in rows)


if __name__ == '__main__':
    main()
