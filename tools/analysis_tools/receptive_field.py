"""Effective receptive fields of backbones, side by side."""
import argparse

import torch
from mmengine.config import DictAction
from picture_parts.inputs import (build_model, image_batches, image_size,
                                  normalised, stem)

import transmamba_mm  # noqa: F401  (before torchvision is imported)
from transmamba_mm.utils.atomic_io import atomic_write
from transmamba_mm.visualization import (contribution_area,
                                         draw_receptive_fields,
                                         effective_receptive_field, to_png)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'configs',
        nargs='+',
        help="config files, or names in MMPretrain's zoo")
    parser.add_argument(
        '--checkpoints',
        nargs='+',
        help='weights, one a config; default: random weights')
    parser.add_argument(
        '--images',
        help='folder of images; default: validation images of the config')
    parser.add_argument('--num-images', type=int, default=32)
    parser.add_argument(
        '--layer',
        help="path of a layer in the backbone, such as 'layers.3'; default: "
        'its last output')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--out', default='receptive_field.png')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={})
    args = parser.parse_args()
    if args.checkpoints and len(args.checkpoints) != len(args.configs):
        parser.error(f'--checkpoints has {len(args.checkpoints)} files for '
                     f'{len(args.configs)} configs')
    return args


def main() -> None:
    args = parse_args()
    fields = {}
    checkpoints = args.checkpoints or [None] * len(args.configs)
    for config, checkpoint in zip(args.configs, checkpoints):
        model, cfg = build_model(config, checkpoint, args.cfg_options,
                                 args.device)
        batches = image_batches(cfg, args.images, image_size(model),
                                args.num_images)
        images = torch.cat([normalised(model, batch) for batch in batches])
        field = effective_receptive_field(model.backbone, images, args.layer)
        fields[stem(config, checkpoint)] = field
        halves, most = (contribution_area(field, s) for s in (0.5, 0.95))
        print(f'{config}: {len(images)} images, half of the gradient in '
              f'{halves:.1%} of the pixels, 95 % in {most:.1%}')
    atomic_write(args.out, to_png(draw_receptive_fields(fields)))
    print(f'Saved {args.out}')


if __name__ == '__main__':
    main()
