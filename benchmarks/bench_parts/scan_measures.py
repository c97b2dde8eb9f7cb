"""Times, errors and memory of a scan."""
import multiprocessing
import statistics
import time
from pathlib import Path
from typing import Callable, Dict, Optional, Sequence, Tuple

import torch
from mmengine.logging import MMLogger
from torch import Tensor

from transmamba_mm.utils.benchmark import measure_call
from .bounds import io_bytes
from .results import failure
from .scan_cases import CASES, LOOP, Case, draw_inputs, in_precision, run_scan

#: What a row of one mode is told apart by.
Form = Tuple[str, str]  # mode, timing


def make_call(case: Case, backend: str, inputs: Dict[str, Tensor],
              train: bool) -> Callable[[], Tensor]:
    """Make a function of nothing that runs a candidate once.

    Args:
        case (Case): What to run.
        backend (str): The candidate.
        inputs (Dict[str, Tensor]): Of ``draw_inputs``.
        train (bool): Whether it goes backward too.

    Returns:
        Callable: It returns nothing.
    """

    def infer() -> None:
        with torch.no_grad():
            run_scan(case, backend, inputs)

    if not train:
        return infer
    dout = torch.randn_like(_output_like(case, inputs))

    def step() -> None:
        out = run_scan(case, backend, inputs)
        torch.autograd.grad(out, list(inputs.values()), dout)

    return step


def work_of(case: Case, inputs: Dict[str, Tensor],
            train: bool) -> Tuple[int, int]:
    """Count what the scan must move and compute.

    Args:
        case (Case): The scan.
        inputs (Dict[str, Tensor]): Of ``draw_inputs``.
        train (bool): Whether it goes backward too.

    Returns:
        Tuple[int, int]: Bytes and exponentials.
    """
    large = [
        v for k, v in inputs.items() if k in ('u', 'delta', 'B', 'C', 'z')
    ]
    out = _output_like(case, inputs)
    return io_bytes(large, out, train), case.exponentials * (1 + train)


def _output_like(case: Case, inputs: Dict[str, Tensor]) -> Tensor:
    """Some tensor (batch, E, L) with the dtype of the output."""
    u = inputs['u']
    return u[:, 0] if u.dim() == 4 else u


def card_times(case: Case, backend: str, inputs: Dict[str, Tensor],
               forms: Sequence[Form], repeats: int) -> Dict[Form, dict]:
    """Time a candidate on the card.

    Args:
        case (Case): What to run.
        backend (str): The candidate.
        inputs (Dict[str, Tensor]): Of ``draw_inputs``.
        forms (Sequence[Form]): Pairs of mode and timing.
        repeats (int): Timed calls.

    Returns:
        Dict[Form, dict]: Of ``measure_call``; the memory is what comes on top
        of the inputs. Where it failed, ``error`` says why.
    """
    found = {}
    for mode, timing in forms:
        call = make_call(case, backend, inputs, mode == 'train')
        before = torch.cuda.memory_allocated() / 2**20
        try:
            result = measure_call(
                call,
                case.batch,
                True,
                repeats=repeats,
                cuda_graph=timing == 'graph',
                max_seconds=2.)
            result['peak_mib'] -= before
        except Exception as error:
            result = failure(error)
        found[mode, timing] = result
        del call
        torch.cuda.empty_cache()
    return found


def cpu_times(case: Case, backends: Sequence[str], inputs: Dict[str, Tensor],
              rounds: int) -> Dict[Tuple[str, str], dict]:
    """Time candidates in turn, by the process's CPU time.

    Args:
        case (Case): What to run.
        backends (Sequence[str]): The candidates.
        inputs (Dict[str, Tensor]): Of ``draw_inputs``.
        rounds (int): Rounds that count, after one to warm up.

    Returns:
        Dict[Tuple[str, str], dict]: By candidate and mode, as of
        ``measure_call``.
    """
    calls = {
        (b, mode): make_call(case, b, inputs, mode == 'train')
        for b in backends
        for mode in ('infer', 'train')
    }
    seconds = {key: [] for key in calls}
    for i in range(rounds + 1):
        for key, call in calls.items():
            start = time.process_time()
            call()
            if i:
                seconds[key].append(time.process_time() - start)
    return {key: _summary(s, case.batch) for key, s in seconds.items()}


def _summary(seconds: Sequence[float], batch: int) -> dict:
    median = statistics.median(seconds)
    quartiles = statistics.quantiles(seconds, n=4)
    return dict(
        latency_ms=1e3 * median,
        spread_ms=1e3 * (quartiles[2] - quartiles[0]),
        images_per_s=batch / max(median, 1e-9))


def errors_of(case: Case,
              backends: Sequence[str],
              device: str,
              dtype: torch.dtype,
              seed: Optional[int] = None) -> Dict[str, dict]:
    """Compare candidates with the float64 oracle, fed the rounded inputs.

    Args:
        case (Case): Small enough for the oracle.
        backends (Sequence[str]): The candidates.
        device (str): Where they run.
        dtype (torch.dtype): Precision of the inputs.
        seed (int, optional): Of the inputs. Defaults to None, new ones.

    Returns:
        Dict[str, dict]: By candidate: ``max_error`` of the output before its
        cast (the rounded inputs are given in float32; largest error over
        largest value), ``max_error_cast`` (the same after it), ``l2_error`` of
        the output and ``gradient_error``, the
        worst of the inputs' gradients (relative L2), after the cast.
    """
    rounded = draw_inputs(case, device, dtype, seed)
    exact = in_precision(rounded, torch.float64)
    want = run_scan(case, 'reference', exact)
    dout = torch.randn_like(want).to(dtype)
    grads = torch.autograd.grad(want, list(exact.values()), dout.double())
    want = want.detach()
    found = {}
    for backend in backends:
        try:
            found[backend] = _errors(case, backend, rounded, dout, want, grads)
        except Exception as error:
            found[backend] = failure(error)
    return found


def _errors(case: Case, backend: str, rounded: Dict[str, Tensor], dout: Tensor,
            want: Tensor, want_grads: Sequence[Tensor]) -> dict:
    uncast = in_precision(rounded, torch.float32)
    with torch.no_grad():
        error = (run_scan(case, backend, uncast).double() - want).abs().max()
    inputs = in_precision(rounded, dout.dtype)
    out = run_scan(case, backend, inputs)
    grads = torch.autograd.grad(out, list(inputs.values()), dout)
    by_name = dict(zip(inputs, map(_l2, grads, want_grads)))
    worst = max(by_name, key=by_name.get)
    scale = want.abs().max()
    return dict(
        max_error=(error / scale).item(),
        max_error_cast=((out.double() - want).abs().max() / scale).item(),
        l2_error=_l2(out, want),
        gradient_error=by_name[worst],
        gradient_worst=worst)


def _l2(got: Tensor, want: Tensor) -> float:
    """Relative L2 error; a NaN counts as infinite."""
    error = ((got.double() - want).norm() / want.norm()).item()
    return error if error == error else float('inf')


def prepare(threads: int) -> None:
    """Set the threads, and keep the log out of the table."""
    torch.set_num_threads(threads)
    MMLogger.get_instance('benchmark', log_level='WARNING')


def cpu_memory(label: str, backends: Sequence[str],
               threads: int) -> Dict[Tuple[str, str], float]:
    """Measure the memory that one run takes, each in a fresh process.

    Args:
        label (str): A key of ``CASES``.
        backends (Sequence[str]): The candidates.
        threads (int): Threads.

    Returns:
        Dict[Tuple[str, str], float]: MiB by candidate and mode; empty where
        the system does not tell.
    """
    if not Path('/proc/self/clear_refs').exists():
        return {}
    keys = [(b, mode) for b in backends for mode in ('infer', 'train')]
    context = multiprocessing.get_context('spawn')
    with context.Pool(1, maxtasksperchild=1) as pool:
        peaks = pool.starmap(
            _cpu_peak, [(label, *key, threads) for key in keys], chunksize=1)
    return dict(zip(keys, peaks))


def _cpu_peak(label: str, backend: str, mode: str, threads: int) -> float:
    prepare(threads)
    case = CASES[label]
    tiny = CASES['tiny']
    make_call(tiny, backend, draw_inputs(tiny, 'cpu', torch.float32), True)()
    inputs = draw_inputs(case, 'cpu', torch.float32, 0)
    call = make_call(case, backend, inputs, mode == 'train')
    Path('/proc/self/clear_refs').write_text('5')  # resets the peak
    before = _read_status('VmRSS')
    call()
    return _read_status('VmHWM') - before


def _read_status(key: str) -> float:
    """A figure of /proc/self/status in MiB."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith(key + ':'):
            return int(line.split()[1]) / 1024
    raise KeyError(key)


def candidates(case: Case, backends: Sequence[str], loop: bool) -> list:
    """List a case's candidates; the loop runs in one order only.

    Args:
        case (Case): The case.
        backends (Sequence[str]): Back ends of the scan.
        loop (bool): Whether the loop is wanted.

    Returns:
        list: Names.
    """
    return [LOOP] * (loop and case.family is None) + list(backends)
