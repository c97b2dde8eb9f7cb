"""Train a model from a config, with the flags of MMPretrain's tool."""
import argparse
import os
import os.path as osp

import torch
from mmengine.config import Config, DictAction
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

import transmamba_mm  # noqa: F401  (before torchvision is imported)
from transmamba_mm.utils.launch import load_config, use_gloo_without_card


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder for logs and checkpoints')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='go on from a checkpoint; without a path, from the last whole '
        'one in the work dir, or from the start if there is none')
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision: bfloat16 where the card has it, unless '
        'optim_wrapper.dtype says otherwise')
    parser.add_argument(
        '--no-validate', action='store_true', help='do not validate')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with the batch size')
    parser.add_argument(
        '--no-pin-memory',
        action='store_true',
        help='do not pin memory (never done without an accelerator)')
    parser.add_argument(
        '--no-persistent-workers',
        action='store_true',
        help='end the workers after each epoch (the default here, since '
        'workers that live on make a resumed run differ)')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='overrides such as train_dataloader.batch_size=32')
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='how several processes are started')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def merge_args(cfg: Config, args: argparse.Namespace) -> Config:
    """Put the command line's wishes into the config; flags win."""
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        name = osp.splitext(osp.basename(args.config))[0]
        cfg.work_dir = osp.join('work_dirs', name)
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp:
        use_amp(cfg)
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    if args.auto_scale_lr:
        if 'auto_scale_lr' not in cfg:
            raise ValueError(
                '--auto-scale-lr needs the batch size that the learning rate '
                'is meant for: set auto_scale_lr=dict(base_batch_size=...) '
                'in the config.')
        cfg.auto_scale_lr.enable = True
    for field in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if cfg.get(field) is not None:
            set_loader_defaults(cfg[field], args)
    check_schedule(cfg)
    return cfg


def use_amp(cfg: Config) -> None:
    """Switch to mixed precision."""
    if not torch.cuda.is_available():
        raise ValueError('--amp needs an accelerator, and there is none; '
                         'leave the flag out on a CPU.')
    bf16 = torch.cuda.is_bf16_supported()
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('dtype', 'bfloat16' if bf16 else 'float16')
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def set_loader_defaults(loader: dict, args: argparse.Namespace) -> None:
    """Fill in what a dataloader config leaves open."""
    loader.setdefault('collate_fn', dict(type='default_collate'))
    loader.setdefault('persistent_workers', False)
    loader.setdefault('pin_memory', True)
    if args.no_pin_memory or not torch.cuda.is_available():
        loader.pin_memory = False
    if args.no_persistent_workers or not loader.get('num_workers'):
        loader.persistent_workers = False


def check_schedule(cfg: Config) -> None:
    """Refuse a training that ends before one of its schedulers begins."""
    epochs = cfg.train_cfg.get('max_epochs')
    schedulers = cfg.get('param_scheduler') or []
    if epochs is None or not isinstance(schedulers, list):
        return
    for i, scheduler in enumerate(schedulers):
        begin = scheduler.get('begin', 0)
        if scheduler.get('by_epoch', True) and begin >= epochs:
            raise ValueError(
                f'train_cfg.max_epochs={epochs}, but param_scheduler[{i}] '
                f'({scheduler.type}) begins after epoch {begin}: train '
                'longer, shorten the warm-up in the config, or keep the '
                'learning rate constant by --cfg-options '
                'param_scheduler=None')


def main() -> None:
    args = parse_args()
    cfg = merge_args(load_config(args.config), args)
    use_gloo_without_card(cfg)
    if 'runner_type' in cfg:
        runner = RUNNERS.build(cfg)
    else:
        runner = Runner.from_cfg(cfg)
    runner.train()


if __name__ == '__main__':
    main()
