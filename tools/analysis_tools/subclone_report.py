"""What weight subcloning would do to each tensor, without a training."""
import argparse
import os.path as osp

import torch
from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope
from mmpretrain.registry import HOOKS, MODELS

import transmamba_mm  # noqa: F401  (before torchvision is imported)
from transmamba_mm.subclone import PRESETS
from transmamba_mm.utils.atomic_io import atomic_write
from transmamba_mm.utils.launch import load_config

HOOK = 'WeightSubcloneHook'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file of the student')
    parser.add_argument(
        'teacher',
        nargs='?',
        help="the teacher's weights, file or folder; default: `checkpoint` "
        f'of {HOOK} in the config')
    parser.add_argument(
        '--plan', choices=PRESETS, help="preset, instead of the config's plan")
    parser.add_argument(
        '--tower',
        help="'vision' or 'text', of a teacher's file that holds several")
    parser.add_argument(
        '--out',
        help='JSON file to write; default: subclone_plan.json in the work '
        'folder of the config')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        help='overrides such as custom_hooks.0.first_n=-1')
    return parser.parse_args()


def hook_config(cfg: Config, args: argparse.Namespace) -> dict:
    """Take the hook's arguments from config and command line."""
    hooks = cfg.get('custom_hooks') or []
    own = next((h for h in hooks if str(h.get('type')).endswith(HOOK)), None)
    if own is None:
        print(f'The config has no {HOOK}; its default options are taken.')
    hook = dict(own or {}, type=f'transmamba_mm.{HOOK}')
    if args.teacher is not None:
        hook['checkpoint'] = args.teacher
    for key in ('plan', 'tower'):
        if getattr(args, key) is not None:
            hook[key] = getattr(args, key)
    if not hook.get('checkpoint'):
        raise SystemExit(f'Name the teacher: the config has no {HOOK} with '
                         'a `checkpoint`.')
    return hook


def main() -> None:
    args = parse_args()
    cfg = load_config(args.config)
    cfg.merge_from_dict(args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    seed = (cfg.get('randomness') or {}).get('seed') or 0
    torch.manual_seed(seed)
    hook = HOOKS.build(hook_config(cfg, args))
    # as the runner does
    cfg.model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    model = MODELS.build(cfg.model)
    _, report = hook.clone(model, cfg, seed)
    print(report.to_table())
    print(report.summary())
    stem = osp.splitext(osp.basename(args.config))[0]
    folder = cfg.get('work_dir') or osp.join('work_dirs', stem)
    out = args.out or osp.join(folder, 'subclone_plan.json')
    atomic_write(out, report.to_json().encode())
    print(f'Written to {out}')


if __name__ == '__main__':
    main()
