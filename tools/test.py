"""Test a checkpoint, with the flags of MMPretrain's tool."""
import argparse
import copy
import os
import os.path as osp

import mmengine
import torch
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.evaluator import DumpResults
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

import transmamba_mm  # noqa: F401  (before torchvision is imported)
from transmamba_mm.utils.launch import load_config, use_gloo_without_card


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--work-dir', help='folder for the metrics')
    parser.add_argument('--out', help='file for the results')
    parser.add_argument(
        '--out-item',
        choices=['metrics', 'pred'],
        help='what --out holds; default: predictions')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='overrides such as test_dataloader.batch_size=32')
    parser.add_argument('--amp', action='store_true', help='mixed precision')
    parser.add_argument('--show-dir', help='folder for prediction pictures')
    parser.add_argument(
        '--show', action='store_true', help='show predictions in a window')
    parser.add_argument(
        '--interval', type=int, default=1, help='show every n-th image')
    parser.add_argument(
        '--wait-time', type=float, default=2, help='seconds a window stays')
    parser.add_argument(
        '--no-pin-memory',
        action='store_true',
        help='do not pin memory (never done without an accelerator)')
    parser.add_argument(
        '--tta',
        action='store_true',
        help="test-time augmentation: the config's tta_model and "
        'tta_pipeline, or else the mean over the image and its mirror image')
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='how several processes are started')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    if args.out_item is not None and args.out is None:
        parser.error('--out-item needs --out, the file to write')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def merge_args(cfg: Config, args: argparse.Namespace) -> Config:
    """Put the command line's wishes into the config; flags win."""
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    cfg.launcher = args.launcher
    cfg.load_from = args.checkpoint
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        name = osp.splitext(osp.basename(args.config))[0]
        cfg.work_dir = osp.join('work_dirs', name)
    if args.amp:
        cfg.test_cfg.fp16 = True
    if args.show or args.show_dir is not None:
        show_predictions(cfg, args)
    if args.tta:
        use_tta(cfg)
    loader = cfg.test_dataloader
    loader.setdefault('collate_fn', dict(type='default_collate'))
    loader.setdefault('pin_memory', True)
    if args.no_pin_memory or not torch.cuda.is_available():
        loader.pin_memory = False
    return cfg


def show_predictions(cfg: Config, args: argparse.Namespace) -> None:
    """Turn the visualisation hook on."""
    hook = cfg.default_hooks.get('visualization')
    if hook is None:
        raise ValueError(
            '--show and --show-dir need default_hooks.visualization='
            "dict(type='VisualizationHook') in the config.")
    hook.update(
        enable=True,
        show=args.show,
        wait_time=args.wait_time,
        out_dir=args.show_dir,
        interval=args.interval)


def use_tta(cfg: Config) -> None:
    """Wrap the model in test-time augmentation."""
    pipeline = cfg.test_dataloader.dataset.pipeline
    if 'tta_model' not in cfg:
        cfg.tta_model = dict(type='mmpretrain.AverageClsScoreTTA')
    if 'tta_pipeline' not in cfg:
        views = [dict(type='RandomFlip', prob=p) for p in (1., 0.)]
        cfg.tta_pipeline = copy.deepcopy(pipeline[:-1]) + [
            dict(type='TestTimeAug', transforms=[views, [pipeline[-1]]])
        ]
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline


def main() -> None:
    args = parse_args()
    cfg = merge_args(load_config(args.config), args)
    use_gloo_without_card(cfg)
    if 'runner_type' in cfg:
        runner = RUNNERS.build(cfg)
    else:
        runner = Runner.from_cfg(cfg)
    if args.out and args.out_item != 'metrics':
        runner.test_evaluator.metrics.append(
            DumpResults(out_file_path=args.out))
    metrics = runner.test()
    if args.out and args.out_item == 'metrics':
        mmengine.dump(metrics, args.out)


if __name__ == '__main__':
    main()
