"""Run a batch again that the guard saved because it was not finite."""
import argparse

from mmengine.config import DictAction

import transmamba_mm  # noqa: F401  (before torchvision is imported)
from transmamba_mm.utils.launch import load_config
from transmamba_mm.utils.replay import replay_batch


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of the training')
    parser.add_argument('batch', help='file in the work dir, in non_finite/')
    parser.add_argument(
        '--checkpoint', help='weights; default: those in the file')
    parser.add_argument('--device', default='cpu')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        help='overrides such as model.backbone.scan_backend=reference')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = load_config(args.config)
    cfg.merge_from_dict(args.cfg_options)
    reason = replay_batch(cfg, args.batch, args.checkpoint, args.device)
    print(reason or 'All was finite this time.')


if __name__ == '__main__':
    main()
