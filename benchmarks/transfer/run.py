"""Train the rows of a table, several side by side, and note the results.

    python benchmarks/transfer/run.py ablation --data-root data/cifar10

Each row is one call of tools/train.py (see row.py for what a row is and how
a file of tables is added). A row that is in the results is not trained again,
one that was interrupted goes on from its last checkpoint, and one that failed
is named with its last error. The exit status is 1 if a row failed.
"""
import argparse
import io
import os
import os.path as osp
import re
import signal
import subprocess
import sys
import time
from glob import glob
from importlib import import_module
from typing import Callable, Dict, List

import torch
from lines import append_line, estimate, key, predictions_path, read_lines
from meter import Meter
from mmengine.runner import CheckpointLoader
from record import LOG_INTERVAL, ROOT, describe, last_error
from row import Row

from transmamba_mm.engine.hooks import SavePredictionsHook
from transmamba_mm.utils.atomic_io import atomic_write

HERE = osp.dirname(osp.abspath(__file__))
#: Seconds that a training has to end after it was asked to.
GRACE = 20


def all_tables() -> Dict[str, Callable[..., List[Row]]]:
    """Collect the tables of all files beside this one.

    Returns:
        Dict[str, Callable]: What lists the rows of each table.
    """
    tables: Dict[str, Callable[..., List[Row]]] = {}
    for path in sorted(glob(osp.join(HERE, '*tables.py'))):
        own = import_module(osp.basename(path)[:-3]).TABLES
        if twice := sorted(set(own) & set(tables)):
            raise ValueError(f'{path}: other files have tables of the names '
                             f'{twice} too; change them in its TABLES.')
        tables.update(own)
    return tables


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('table', choices=sorted(all_tables()))
    parser.add_argument('--epochs', type=int, help='length of each training')
    parser.add_argument(
        '--data-root', help="folder of the data; default: the table's")
    parser.add_argument('--work-dir', default='work_dirs/transfer')
    parser.add_argument('--results', default=osp.join(HERE, 'results.jsonl'))
    parser.add_argument(
        '--teachers',
        help='folder of the weights that rows need, such as teacher1.pth from '
        'the table `teachers`; default: the work dir')
    parser.add_argument(
        '--devices',
        nargs='+',
        default=['0'] if torch.cuda.is_available() else [''],
        help='numbers of the CUDA devices')
    parser.add_argument(
        '--jobs', type=int, default=2, help='trainings a device')
    parser.add_argument(
        '--minutes',
        type=float,
        default=float('inf'),
        help='stop after so long; what runs then is resumed next time')
    parser.add_argument(
        '--only', default='', help='rows whose name holds all these words')
    parser.add_argument(
        '--part',
        type=_part,
        default='0/1',
        help='every n-th row from row i, as i/n; the first part is 0/n')
    parser.add_argument(
        '--list',
        action='store_true',
        help='name the rows and what they will cost, and train none')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], help='for every row')
    args = parser.parse_args()
    args.teachers = args.teachers or args.work_dir
    return args


def _part(text: str) -> str:
    found = re.fullmatch(r'(\d+)/(\d+)', text)
    if found is None or int(found[1]) >= int(found[2]):
        raise argparse.ArgumentTypeError(
            f'{text!r}: must be i/n with i from 0 to n - 1')
    return text


def common_options(row: Row) -> Dict[str, object]:
    """Return the config keys that all rows set; their own go before.

    Args:
        row (Row): The row.

    Returns:
        Dict[str, object]: Config keys and values.
    """
    options = {
        'randomness.seed': row.seed,
        'train_cfg.max_epochs': row.epochs,
        'train_cfg.val_interval': max(1, row.epochs // 10),
        'default_hooks.checkpoint.interval': max(1, row.epochs // 6),
        'default_hooks.checkpoint.max_keep_ckpts': 1,
        'default_hooks.checkpoint.save_best': None,
        'default_hooks.logger.interval': LOG_INTERVAL,
        # so that the time in the log is that of all iterations
        'log_processor.window_size': LOG_INTERVAL,
    }
    if torch.cuda.is_available():
        options.update({
            'optim_wrapper.type': 'AmpOptimWrapper',
            'optim_wrapper.dtype': 'bfloat16',
            'optim_wrapper.loss_scale': 1.0,
            'optim_wrapper.optimizer.fused': True,
        })
    if torch.cuda.is_available() and row.graph:
        options['default_hooks.cuda_graph.type'] = (
            'transmamba_mm.CUDAGraphHook')
        # not worth its time in a short try
        options['default_hooks.cuda_graph.compile'] = row.epochs >= 10
    if row.predictions:
        options['default_hooks.predictions.type'] = (
            'transmamba_mm.SavePredictionsHook')
    return options


def command(row: Row, folder: str, data_root: str,
            more: List[str]) -> List[str]:
    """Return the call of tools/train.py for a row.

    Args:
        row (Row): The row.
        folder (str): Work folder.
        data_root (str): Folder of the data.
        more (List[str]): Further options, as KEY=VALUE.

    Returns:
        List[str]: The command.
    """
    options = {
        **common_options(row),
        **row.data_options(data_root),
        **row.options()
    }
    return [
        sys.executable, 'tools/train.py', row.config, '--work-dir', folder,
        '--resume', '--cfg-options', *[f'{k}={v}' for k, v in options.items()],
        *more
    ]


class Job:
    """A row that trains on a device; its output goes to the work folder.

    Args:
        row (Row): The row.
        device (str): Number of the CUDA device, '' for the CPU.
        args (argparse.Namespace): The command line.
    """

    def __init__(self, row: Row, device: str,
                 args: argparse.Namespace) -> None:
        self.row = row
        self.device = device
        self.folder = osp.abspath(osp.join(args.work_dir, row.name))
        self.log = osp.join(self.folder, 'out.log')
        os.makedirs(self.folder, exist_ok=True)
        env = dict(
            os.environ, CUDA_VISIBLE_DEVICES=device, PYTHONUNBUFFERED='1')
        env.update({
            name: osp.abspath(osp.join(args.teachers, file))
            for name, file in row.needs.items()
        })
        env['PYTHONPATH'] = os.pathsep.join(
            filter(None, [ROOT, env.get('PYTHONPATH')]))
        root = osp.abspath(args.data_root or osp.join(ROOT, row.data_root))
        with open(self.log, 'w') as log:
            self.process = subprocess.Popen(
                command(row, self.folder, root, args.cfg_options),
                cwd=ROOT,
                env=env,
                stdout=log,
                stderr=log)

    def ended(self) -> bool:
        """Tell whether the training is over.

        Returns:
            bool: True if so.
        """
        return self.process.poll() is not None

    def stop(self) -> None:
        """End the training, by force if it does not listen."""
        self.process.terminate()
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Scheduler:
    """Keeps every device busy until all rows are done or the time is over.

    Args:
        rows (List[Row]): What to train.
        args (argparse.Namespace): The command line.
    """

    def __init__(self, rows: List[Row], args: argparse.Namespace) -> None:
        self.args = args
        self.waiting = list(rows)
        self.running: List[Job] = []
        self.failed: List[Row] = []
        self.meters = {device: Meter(device) for device in args.devices}

    def run(self) -> None:
        """Train until nothing is left that can be."""
        end = time.time() + 60 * self.args.minutes
        try:
            while time.time() < end:
                self.start_rows()
                if not self.running:
                    break
                time.sleep(0.2)
                self.tick()
        finally:
            self.stop()
        for row in self.waiting:
            reason = self.missing(row) or 'the time is over'
            print(f'not trained: {row.name} ({reason})', flush=True)

    def start_rows(self) -> None:
        """Fill the free places with rows whose weights are there."""
        for device in self.args.devices * self.args.jobs:
            busy = sum(job.device == device for job in self.running)
            ready = [r for r in self.waiting if not self.missing(r)]
            if busy < self.args.jobs and ready:
                self.waiting.remove(ready[0])
                self.running.append(Job(ready[0], device, self.args))

    def missing(self, row: Row) -> str:
        """Say which files or folders a row waits for, '' if for none."""
        files = [
            path for path in (osp.join(self.args.teachers, name)
                              for name in row.needs.values())
            if not osp.exists(path)
        ]
        return f'needs {", ".join(files)}' if files else ''

    def tick(self) -> None:
        """Charge the time, and note what has ended."""
        for device, meter in self.meters.items():
            meter.tick(j.folder for j in self.running if j.device == device)
        for job in [j for j in self.running if j.ended()]:
            self.running.remove(job)
            self.finish(job)

    def finish(self, job: Job) -> None:
        """Note the result of a training that has ended."""
        row = job.row
        cost = self.meters[job.device].close(job.folder)
        line = describe(row, job.folder, **cost, side_by_side=self.args.jobs)
        if line is None:
            self.fail(job,
                      f'exit {job.process.returncode}: {last_error(job.log)}')
            return
        try:
            self.keep(job)
            append_line(self.args.results, line)
        except OSError as error:
            self.fail(job, str(error))
            return
        print(
            f'{row.name}: {line["value"]} in {line["train_seconds"]} s',
            flush=True)

    def keep(self, job: Job) -> None:
        """Put weights and predictions where they are looked for."""
        if job.row.keeps:
            keep_weights(job.folder, osp.join(self.args.teachers,
                                              job.row.keeps))
        if job.row.predictions:
            keep_predictions(job.folder,
                             predictions_path(self.args.results, job.row.name))

    def fail(self, job: Job, reason: str) -> None:
        """Tell at once and go on with the other rows."""
        self.failed.append(job.row)
        print(f'FAILED {job.row.name} ({reason}); see {job.log}', flush=True)

    def stop(self) -> None:
        """Stop what still runs; it is resumed next time."""
        for job in self.running:
            job.process.terminate()
        for job in self.running:
            job.stop()
            self.meters[job.device].close(job.folder)
            print(f'stopped {job.row.name}', flush=True)
        self.running.clear()


def keep_weights(folder: str, path: str) -> None:
    """Put trained weights where other rows look for them.

    Args:
        folder (str): Work folder of the training.
        path (str): File to write.
    """
    with open(osp.join(folder, 'last_checkpoint')) as file:
        last = osp.join(folder, osp.basename(file.read().strip()))
    state = CheckpointLoader.load_checkpoint(last, 'cpu')['state_dict']
    buffer = io.BytesIO()
    torch.save(dict(state_dict=state), buffer)
    atomic_write(path, buffer.getvalue())


def keep_predictions(folder: str, path: str) -> None:
    """Put the predictions of the last validation beside the results.

    Args:
        folder (str): Work folder of the training.
        path (str): File to write.
    """
    with open(osp.join(folder, SavePredictionsHook.FILE_NAME), 'rb') as file:
        atomic_write(path, file.read())


def planned(args: argparse.Namespace) -> List[Row]:
    """List the rows that were asked for and are not in the results.

    Args:
        args (argparse.Namespace): The command line.

    Returns:
        List[Row]: In the table's order.
    """
    length = {} if args.epochs is None else dict(epochs=args.epochs)
    first, step = map(int, args.part.split('/'))
    rows = [
        r for r in all_tables()[args.table](**length)
        if all(word in r.name for word in args.only.split())
    ][first::step]
    done = {key(line) for line in read_lines(args.results)}
    return [r for r in rows if key(r.identity()) not in done]


def list_rows(rows: List[Row], args: argparse.Namespace) -> None:
    """Name rows, and what they will cost as far as it is known.

    Args:
        rows (List[Row]): The rows.
        args (argparse.Namespace): The command line.
    """
    lines = read_lines(args.results)
    costs = [estimate(row.identity(), lines) for row in rows]
    for row, cost in zip(rows, costs):
        print(row.name, '' if cost is None else f'about {cost:.0f} s')
    known = [cost for cost in costs if cost is not None]
    if known:
        print(f'about {sum(known) / 60:.0f} minutes of one device for '
              f'{len(known)} of {len(rows)} rows, by the times of such rows')


def main() -> None:
    args = parse_args()
    rows = planned(args)
    print(f'{len(rows)} rows to train', flush=True)
    if args.list:
        list_rows(rows, args)
        return
    # so that the trainings end with this process
    signal.signal(signal.SIGTERM, lambda *_: sys.exit('Ended from outside.'))
    scheduler = Scheduler(rows, args)
    scheduler.run()
    sys.exit(bool(scheduler.failed))


if __name__ == '__main__':
    main()
