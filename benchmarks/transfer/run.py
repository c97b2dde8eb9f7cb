"""Train the rows of a table, several side by side, and note the results.

    python benchmarks/transfer/run.py ablation --data-root data/cifar10

Each row is one call of tools/train.py. A row that is in the results is not
trained again, one that was interrupted goes on.
"""
import argparse
import json
import os
import os.path as osp
import subprocess
import sys
import time
from typing import Dict, List, Optional

import torch
from mmengine.runner import CheckpointLoader
from tables import TABLES, TEACHER, Run

import transmamba_mm  # noqa: F401  (checkpoints are read as data)

ROOT = osp.abspath(osp.join(osp.dirname(__file__), '..', '..'))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('table', choices=sorted(TABLES))
    parser.add_argument('--epochs', type=int, help='length of each training')
    parser.add_argument('--data-root', default='data/cifar10')
    parser.add_argument('--work-dir', default='work_dirs/transfer')
    parser.add_argument(
        '--results', default=osp.join(osp.dirname(__file__), 'results.jsonl'))
    parser.add_argument(
        '--teachers',
        help='folder with teacher1.pth and teacher0.75.pth, by the share of '
        'the images that they saw; made by the table `teachers`')
    parser.add_argument(
        '--devices',
        nargs='+',
        default=['0'] if torch.cuda.is_available() else [''],
        help='numbers of the CUDA devices')
    parser.add_argument(
        '--jobs', type=int, default=2, help='trainings a device')
    parser.add_argument(
        '--minutes', type=float, default=1e9, help='stop after so long')
    parser.add_argument(
        '--only', default='', help='rows whose name holds all these words')
    parser.add_argument(
        '--part', default='0/1', help='every n-th row from row i, as i/n')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], help='for every row')
    args = parser.parse_args()
    args.teachers = args.teachers or args.work_dir
    return args


def command(run: Run, args: argparse.Namespace) -> List[str]:
    """Return the call of tools/train.py for a row."""
    root = args.data_root
    options = {
        'train_dataloader.dataset.dataset.data_root': root,
        'val_dataloader.dataset.data_root': root,
        'train_dataloader.dataset.fraction': run.fraction,
        'randomness.seed': run.seed,
        'train_cfg.max_epochs': run.epochs,
        'train_cfg.val_interval': max(1, run.epochs // 10),
        'default_hooks.checkpoint.interval': max(1, run.epochs // 2),
        'default_hooks.checkpoint.max_keep_ckpts': 1,
        'default_hooks.checkpoint.save_best': 'None',
        'default_hooks.logger.interval': 50,
        **run.options()
    }
    if torch.cuda.is_available():
        options.update({
            'optim_wrapper.type':
            'AmpOptimWrapper',
            'optim_wrapper.dtype':
            'bfloat16',
            'optim_wrapper.loss_scale':
            '1.0',
            'optim_wrapper.optimizer.fused':
            'True',
            'default_hooks.cuda_graph.type':
            'transmamba_mm.CUDAGraphHook',
        })
    return [
        sys.executable, 'tools/train.py', run.config, '--work-dir',
        osp.join(args.work_dir, run.name), '--resume', '--cfg-options',
        *[f'{k}={v}' for k, v in options.items()], *args.cfg_options
    ]


def start(run: Run, device: str, args: argparse.Namespace) -> subprocess.Popen:
    """Start a row on a device; its log goes to the work folder."""
    folder = osp.join(args.work_dir, run.name)
    os.makedirs(folder, exist_ok=True)
    env = dict(os.environ, CUDA_VISIBLE_DEVICES=device, PYTHONUNBUFFERED='1')
    env['TEACHER'] = osp.abspath(
        osp.join(args.teachers, f'teacher{run.teacher_fraction:g}.pth'))
    env['PYTHONPATH'] = os.pathsep.join(
        filter(None, [ROOT, env.get('PYTHONPATH')]))
    with open(osp.join(folder, 'out.log'), 'a') as log:
        return subprocess.Popen(
            command(run, args), cwd=ROOT, env=env, stdout=log, stderr=log)


def read_curve(folder: str) -> List[list]:
    """Read accuracy and training time from the logs of a row.

    Returns:
        List[list]: Epoch, accuracy in per cent, seconds of training so far.
    """
    curve, seconds, last = [], 0., 0
    names = sorted(n for n in os.listdir(folder) if n[:8].isdigit())
    for name in names:
        path = osp.join(folder, name, 'vis_data', 'scalars.json')
        if not osp.isfile(path):
            continue
        with open(path) as file:
            records = [json.loads(line) for line in file if line.strip()]
        for record in records:
            if 'accuracy/top1' in record:
                curve.append([
                    record['step'],
                    round(record['accuracy/top1'], 2),
                    round(seconds, 2)
                ])
            elif 'loss' in record and record['iter'] > last:
                seconds += record['time'] * (record['iter'] - last)
                last = record['iter']
    return curve


def joules_so_far(device: str) -> Optional[float]:
    """Read a card's energy counter; None where it cannot be read."""
    try:
        import pynvml
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(int(device))
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
    except Exception:  # no package, no card, or a card without a counter
        return None


def describe(run: Run, args: argparse.Namespace,
             joules: Optional[float]) -> Optional[Dict]:
    """Return the line of a row that is done, or None.

    ``joules`` is the card's energy while the row ran, divided by the rows
    side by side on it.
    """
    curve = read_curve(osp.join(args.work_dir, run.name))
    if not curve or curve[-1][0] != run.epochs:
        return None
    cuda = torch.cuda.is_available()
    return dict(
        task='classification',
        data='cifar10 (JPEG copy)',
        student=run.student,
        teacher=run.teacher and f'{run.teacher} ({run.teacher_fraction:.0%})',
        method=run.method,
        variant=run.variant,
        fraction=run.fraction,
        seed=run.seed,
        epochs=run.epochs,
        metric='accuracy/top1',
        value=curve[-1][1],
        train_seconds=curve[-1][2],
        joules=joules and round(joules / args.jobs),
        card=torch.cuda.get_device_name(0) if cuda else 'cpu',
        config=run.config,
        commit=os.environ.get('COMMIT') or head(),
        side_by_side=args.jobs,
        options=run.options(),
        curve=curve)


def head() -> str:
    """Return the commit of the code."""
    return subprocess.run(['git', 'rev-parse', '--short', 'HEAD'],
                          cwd=ROOT,
                          capture_output=True,
                          text=True).stdout.strip()


def key(line: Dict) -> tuple:
    """Return what tells a line of the results from others."""
    return tuple(line[k] for k in ('student', 'teacher', 'method', 'variant',
                                   'fraction', 'seed', 'epochs', 'data'))


def known_results(path: str) -> set:
    """Return the keys of the lines that are there."""
    if not osp.isfile(path):
        return set()
    with open(path) as file:
        return {key(json.loads(line)) for line in file if line.strip()}


def planned(args: argparse.Namespace) -> List[Run]:
    """List the rows that were asked for and are not in the results."""
    length = {} if args.epochs is None else dict(epochs=args.epochs)
    first, step = map(int, args.part.split('/'))
    runs = [
        r for r in TABLES[args.table](**length)
        if all(word in r.name for word in args.only.split())
    ][first::step]
    done = known_results(args.results)
    stub = dict(data='cifar10 (JPEG copy)')
    return [
        r for r in runs if key({
            **vars(r),
            **stub, 'teacher':
            r.teacher and f'{r.teacher} ({r.teacher_fraction:.0%})'
        }) not in done
    ]


def finish(run: Run, args: argparse.Namespace,
           joules: Optional[float]) -> None:
    """Note the result of a training that has ended."""
    line = describe(run, args, joules)
    if line is None:
        print(f'FAILED {run.name}: see its out.log', flush=True)
        return
    with open(args.results, 'a') as file:
        file.write(json.dumps(line) + '\n')
    if run.student == TEACHER:
        keep_teacher(run, args)
    print(
        f'{run.name}: {line["value"]} % in {line["train_seconds"]} s',
        flush=True)


def keep_teacher(run: Run, args: argparse.Namespace) -> None:
    """Put a teacher's weights where the students' rows look for them."""
    path = osp.join(args.work_dir, run.name, f'epoch_{run.epochs}.pth')
    state = CheckpointLoader.load_checkpoint(path, 'cpu')
    os.makedirs(args.teachers, exist_ok=True)
    torch.save(
        dict(state_dict=state['state_dict']),
        osp.join(args.teachers, f'teacher{run.fraction:g}.pth'))


def main() -> None:
    args = parse_args()
    end = time.time() + 60 * args.minutes
    waiting = planned(args)
    slots = [d for _ in range(args.jobs) for d in args.devices]
    busy: Dict[int, tuple] = {}
    print(f'{len(waiting)} rows to train', flush=True)
    try:
        while waiting or busy:
            for number, device in enumerate(slots):
                if number in busy and busy[number][1].poll() is not None:
                    run, _, before = busy.pop(number)
                    after = joules_so_far(device)
                    finish(run, args, after and before and after - before)
                if number not in busy and waiting and time.time() < end:
                    run = waiting.pop(0)
                    busy[number] = (run, start(run, device,
                                               args), joules_so_far(device))
            if time.time() > end:
                break
            time.sleep(0.2)
    finally:
        for run, process, _ in busy.values():
            process.terminate()
            print(f'stopped {run.name}', flush=True)


if __name__ == '__main__':
    main()
