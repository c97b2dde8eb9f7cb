"""Time the selective scan's back ends against a plain loop over the steps.

    python benchmarks/scan.py --out scan.jsonl

On a CPU the figure is the process's CPU time on ``--threads`` threads (busy
neighbours then matter less than for wall time), on a card the time between
CUDA events. All candidates of a shape run in turn, round by round, and the
median counts. ``loop`` is the baseline: the textbook scan that forms all
decays at once and walks over ``unbind`` slices, differentiated by autograd.
The exit code is 1 if ``chunked`` trains less than ``--claim`` times as fast.
"""
import argparse
import json
import multiprocessing
import platform
import statistics
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.logging import MMLogger

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import transmamba_mm  # noqa: E402
from transmamba_mm.ops import selective_scan, set_scan_backend  # noqa: E402

#: Batch, groups, channels a group, states, steps.
SHAPES = {
    'vim-tiny': (8, 1, 384, 16, 197),
    'vim-tiny-b1': (1, 1, 384, 16, 197),
    'plainmamba-l1': (2, 4, 384, 16, 196),
    'vmamba-stage1': (1, 4, 192, 1, 3136),
    'vmamba-stage4': (8, 4, 1536, 16, 49),
    'long': (1, 1, 384, 16, 4096),
}
NAMES = ('u', 'delta', 'A', 'B', 'C', 'D', 'delta_bias')


def loop_scan(u, delta, A, B, C, D, delta_bias):
    """The baseline, with mamba-ssm's argument layout."""
    groups = B.shape[1]
    delta = F.softplus(delta + delta_bias[:, None])
    decay = torch.exp(torch.einsum('bel,en->beln', delta, A))
    rows = B.repeat_interleave(u.shape[1] // groups, dim=1)
    x = torch.einsum('bel,benl,bel->beln', delta, rows, u)
    h = u.new_zeros(*u.shape[:2], A.shape[1])
    ys = []
    for a_t, x_t, c_t in zip(decay.unbind(2), x.unbind(2), C.unbind(3)):
        h = a_t * h + x_t
        y = torch.einsum('bgen,bgn->bge', h.unflatten(1, (groups, -1)), c_t)
        ys.append(y.flatten(1))
    return torch.stack(ys, dim=2) + u * D[:, None]


def run_scan(name, inputs):
    """Run a candidate forward."""
    if name == 'loop':
        return loop_scan(*inputs)
    *inputs, bias = inputs
    set_scan_backend(name)
    return selective_scan(*inputs, delta_bias=bias, delta_softplus=True)


def make_inputs(shape, device, dtype=torch.float32, seed=0):
    """Draw inputs as a freshly initialised Mamba block would see them."""
    batch, groups, channels, d_state, length = shape
    generator = torch.Generator().manual_seed(seed)

    def draw(*size):
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    e = groups * channels
    step = torch.exp(torch.empty(e).uniform_(-6.9, -2.3, generator=generator))
    inputs = [
        draw(batch, e, length), 0.5 * draw(batch, e, length),
        -torch.arange(1., d_state + 1).repeat(e, 1),
        draw(batch, groups, d_state, length),
        draw(batch, groups, d_state, length),
        torch.ones(e), step + torch.log(-torch.expm1(-step))
    ]
    return [t.to(device, dtype).requires_grad_() for t in inputs]


def run_once(name, inputs, dout):
    """One forward, and the backward if there is a gradient to start from."""
    if dout is None:
        with torch.no_grad():
            return run_scan(name, inputs), ()
    out = run_scan(name, inputs)
    return out, torch.autograd.grad(out, inputs, dout)


def timed(name, inputs, dout):
    """Milliseconds of one run."""
    if not inputs[0].is_cuda:
        start = time.process_time()
        run_once(name, inputs, dout)
        return 1e3 * (time.process_time() - start)
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run_once(name, inputs, dout)
    stop.record()
    torch.cuda.synchronize()
    return start.elapsed_time(stop)


def measure_times(names, shape, args):
    """Medians over the interleaved rounds: {name: (forward, both)}."""
    inputs = make_inputs(shape, args.device)
    dout = torch.randn_like(inputs[0])
    times = {(n, d): [] for n in names for d in (False, True)}
    for i in range(args.rounds + 1):
        for name, both in times:
            ms = timed(name, inputs, dout if both else None)
            if i:  # the first round warms up
                times[name, both].append(ms)
    return {
        n: tuple(statistics.median(times[n, d]) for d in (False, True))
        for n in names
    }


def measure_errors(names, shape, args):
    """Error / largest value, of the output and of the worst gradient."""
    _, groups, _, d_state, length = shape
    small = (1, groups, 32, d_state, length)
    exact = make_inputs(small, 'cpu', torch.float64)
    dout = torch.randn(
        *exact[0].shape,
        dtype=torch.float64,
        generator=torch.Generator().manual_seed(1))
    want = run_once('reference', exact, dout)
    errors = {}
    for name in names:
        inputs = make_inputs(small, args.device)
        out, grads = run_once(name, inputs, dout.to(inputs[0]))
        errors[name] = (relative(out,
                                 want[0]), max(map(relative, grads, want[1])))
    return errors


def relative(got, want):
    """Largest error over the largest value."""
    scale = want.abs().max().clamp(min=1e-300)
    return ((got.cpu().double() - want).abs().max() / scale).item()


def read_status(key):
    """A figure of /proc/self/status in MB."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith(key + ':'):
            return int(line.split()[1]) / 1024
    raise KeyError(key)


def prepare(threads):
    """Set the threads, and keep the log out of the table."""
    torch.set_num_threads(threads)
    MMLogger.get_instance('benchmark', log_level='WARNING')


def peak_memory(name, shape, both, threads, device):
    """Extra MB of one run. For a CPU, call it in a fresh process."""
    prepare(threads)
    inputs = make_inputs(shape, device)
    dout = torch.randn_like(inputs[0]) if both else None
    tiny = make_inputs((1, shape[1], 8, shape[3], 9), device)
    run_once(name, tiny, torch.randn_like(tiny[0]))
    if device != 'cpu':
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run_once(name, inputs, dout)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    Path('/proc/self/clear_refs').write_text('5')  # resets the peak
    before = read_status('VmRSS')
    run_once(name, inputs, dout)
    return read_status('VmHWM') - before


def measure_memory(names, shape, args):
    """{name: (forward, both)} in MB; empty where it cannot be read."""
    if args.no_memory:
        return {}
    if args.device != 'cpu':
        return {
            n:
            tuple(
                peak_memory(n, shape, both, args.threads, args.device)
                for both in (False, True))
            for n in names
        }
    if not Path('/proc/self/clear_refs').exists():
        return {}
    context = multiprocessing.get_context('spawn')
    tasks = [(n, shape, both, args.threads, 'cpu') for n in names
             for both in (False, True)]
    with context.Pool(1, maxtasksperchild=1) as pool:
        peaks = pool.starmap(peak_memory, tasks, chunksize=1)
    return dict(zip(names, zip(peaks[::2], peaks[1::2])))


def describe(args):
    """The machine and the versions, for the head of the table."""
    machine = platform.processor() or platform.machine()
    if args.device == 'cpu':
        cpuinfo = Path('/proc/cpuinfo')
        if cpuinfo.exists():
            machine = next((line.split(':')[1].strip()
                            for line in cpuinfo.read_text().splitlines()
                            if line.startswith('model name')), machine)
    else:
        machine = torch.cuda.get_device_name()
    return dict(
        machine=machine,
        device=args.device,
        threads=args.threads if args.device == 'cpu' else None,
        clock='process CPU time' if args.device == 'cpu' else 'CUDA events',
        rounds=args.rounds,
        torch=torch.__version__,
        python=platform.python_version(),
        transmamba_mm=transmamba_mm.__version__)


def rows_of(label, shape, names, args):
    """Measure one shape; one dict a candidate."""
    times = measure_times(names, shape, args)
    errors = measure_errors(names, shape, args)
    memory = measure_memory(names, shape, args)
    batch, groups, channels, d_state, length = shape
    state_mb = 4 * batch * groups * channels * d_state * length / 2**20
    return [
        dict(
            shape=label,
            size=shape,
            backend=n,
            forward_ms=times[n][0],
            both_ms=times[n][1],
            forward_ratio=times['loop'][0] / times[n][0],
            both_ratio=times['loop'][1] / times[n][1],
            forward_error=errors[n][0],
            gradient_error=errors[n][1],
            peak_mb=memory.get(n),
            state_mb=state_mb) for n in names
    ]


def show(row):
    """Print one line of the table."""
    peak = row['peak_mb']
    peak = '-' if peak is None else '{:.0f} / {:.0f}'.format(*peak)
    print(
        '{shape:<14} {backend:<10} {forward_ms:9.1f} {both_ms:9.1f} '
        '{forward_ratio:7.2f} {both_ratio:7.2f} {forward_error:9.1e} '
        '{gradient_error:9.1e} '.format(**row) +
        f'{peak:>13} {row["state_mb"]:8.0f}',
        flush=True)


def parse_args():
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--shapes', nargs='+', choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument(
        '--backends',
        nargs='+',
        choices=['reference', 'chunked', 'mamba_ssm'],
        help='beside the loop; default: those that run on the device')
    parser.add_argument('--device', default='cpu', choices=['cpu', 'cuda'])
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument(
        '--claim', type=float, default=4., help='speed-up to check')
    parser.add_argument(
        '--no-memory', action='store_true', help='do not measure peak memory')
    parser.add_argument('--out', help='file to append JSON lines to')
    args = parser.parse_args()
    if args.backends is None:
        args.backends = ['reference', 'chunked']
        args.backends += ['mamba_ssm'] * (args.device == 'cuda')
    return args


def main():
    """Measure, print and save."""
    args = parse_args()
    prepare(args.threads)
    head = describe(args)
    print(', '.join(f'{k} {v}' for k, v in head.items() if v is not None))
    print(f'{"shape":<14} {"back end":<10} {"fwd ms":>9} {"f+b ms":>9} '
          f'{"x loop":>7} {"f+b x":>7} {"fwd err":>9} {"grad err":>9} '
          f'{"peak MB":>13} {"state MB":>8}')
    ratios = {}
    for label in args.shapes:
        names = ['loop', *args.backends]
        for row in rows_of(label, SHAPES[label], names, args):
            show(row)
            if row['backend'] == 'chunked':
                ratios[label] = row['both_ratio']
            if args.out:
                with open(args.out, 'a') as file:
                    file.write(json.dumps({**head, **row}) + '\n')
    return judge(ratios, args.claim)


def judge(ratios, claim):
    """Print whether the claim holds; 1 if it does not."""
    if not ratios:
        return 0
    slow = [label for label, ratio in ratios.items() if ratio < claim]
    worst = min(ratios, key=ratios.get)
    verdict = f'FAIL on {", ".join(slow)}' if slow else 'PASS'
    print(f'chunked trains (forward + backward) at least {claim:g} times as '
          f'fast as the loop: {verdict} (lowest {ratios[worst]:.2f} on '
          f'{worst})')
    return int(bool(slow))


if __name__ == '__main__':
    sys.exit(main())
