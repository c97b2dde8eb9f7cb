"""What each scan direction adds to the features of an image, as pictures."""
import argparse

from mmengine.config import DictAction
from picture_parts.inputs import (build_model, image_size, load_files,
                                  normalised, stem)

import transmamba_mm  # noqa: F401  (before torchvision is imported)
from transmamba_mm.utils.atomic_io import atomic_write
from transmamba_mm.visualization import (KINDS, direction_maps,
                                         draw_direction_maps, parse_layers,
                                         to_png)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('image', help='image file')
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint', nargs='?', help='weights; default: random weights')
    parser.add_argument(
        '--layers',
        type=int,
        nargs='+',
        help='indices of blocks; default: the first, middle and last one')
    parser.add_argument(
        '--kind',
        choices=KINDS,
        default='pca',
        help='principal components as colours, or the norm')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--out', default='direction_maps.png')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={})
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    model, _ = build_model(args.config, args.checkpoint, args.cfg_options,
                           args.device)
    batch = load_files([args.image], image_size(model))
    layers = parse_layers(model.backbone, args.layers)
    maps = direction_maps(model.backbone, normalised(model, batch), layers,
                          args.kind)
    image = batch['inputs'][0].permute(1, 2, 0).numpy()[..., ::-1]
    figure = draw_direction_maps(image, {
        layer: one[0]
        for layer, one in maps.items()
    }, model.backbone.direction_names, stem(args.config, args.checkpoint))
    atomic_write(args.out, to_png(figure))
    print(f'Saved {args.out}')


if __name__ == '__main__':
    main()
