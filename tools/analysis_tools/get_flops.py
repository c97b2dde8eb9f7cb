"""Parameters and floating-point operations, the scan included."""
import argparse
import json

from mmpretrain.apis import get_model

import transmamba_mm  # noqa: F401  (before torchvision is imported)
from transmamba_mm.utils.flops import count_flops


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--shape',
        type=int,
        nargs='+',
        help='image size, one number or height and width; default: the '
        "backbone's img_size")
    parser.add_argument('--out', help='JSON file to write')
    args = parser.parse_args()
    if args.shape is not None and len(args.shape) > 2:
        parser.error('--shape takes one number, or height and width')
    return args


def main() -> None:
    args = parse_args()
    model = get_model(args.config)
    size = args.shape or getattr(model.backbone, 'img_size', (224, 224))
    height, width = size if len(size) == 2 else size * 2
    counts = count_flops(model, (1, 3, height, width))
    print(f'Image size: {height} x {width}')
    print(f'Parameters: {counts["parameters"] / 1e6:.2f} M')
    for key, name in (('matmul', 'matrix products and convolutions'),
                      ('scan', 'selective scan'), ('total', 'total')):
        print(f'{name + ":":35} {counts[key] / 1e9:8.3f} GFLOPs')
    print('A multiply-add is two operations; element-wise work outside the '
          'scan is not counted.')
    if args.out:
        with open(args.out, 'w') as f:
            json.dump(dict(counts, height=height, width=width), f)


if __name__ == '__main__':
    main()
