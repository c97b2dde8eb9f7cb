"""Write a trained CLIP4Clip as a folder of open_clip, to teach with it.

The checkpoint is of a TextVideoRetrieval whose backbone is an
OpenCLIPVideoTower and whose text tower is an OpenCLIPTextTower. Recipes with
ExportOpenCLIPHook do it by themselves.
"""
import argparse

from mmengine.runner import CheckpointLoader
from mmpretrain.registry import MODELS

import transmamba_mm  # noqa: F401  (safe loading)
from transmamba_mm.models.multimodal.open_clip_export import write_open_clip
from transmamba_mm.utils.launch import load_config


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of the training')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('dst', help='folder to write')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = load_config(args.config)
    cfg.model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    model = MODELS.build(cfg.model)
    loaded = CheckpointLoader.load_checkpoint(args.checkpoint, 'cpu')
    model.load_state_dict(loaded.get('state_dict', loaded))
    scale = write_open_clip(model, args.dst)
    print(f"{args.dst}\nTeach with it: dict(type='transmamba_mm."
          f"CLIP4ClipTeacher', model_name='{args.dst}'); the factor on its "
          f'cosines is {scale:.1f}')


if __name__ == '__main__':
    main()
