"""Export a trained classifier to ONNX, and check the file's outputs."""
import argparse

from mmpretrain import get_model

import transmamba_mm  # noqa: F401  (safe loading, registration)
from transmamba_mm.deployment import export_onnx


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of the model')
    parser.add_argument('checkpoint', help='its weights')
    parser.add_argument('out', help='file to write, ending in .onnx')
    parser.add_argument(
        '--img-size',
        type=int,
        nargs=2,
        metavar=('HEIGHT', 'WIDTH'),
        help="size of the images; by default the backbone's")
    parser.add_argument(
        '--opset',
        type=int,
        default=18,
        help='version of the ONNX operators, at least 18')
    parser.add_argument(
        '--tolerance',
        type=float,
        default=1e-3,
        help='largest difference of the outputs that is allowed')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    model = get_model(args.config, pretrained=args.checkpoint, device='cpu')
    try:
        report = export_onnx(model, args.out, args.img_size, args.opset,
                             args.tolerance)
    except (ImportError, ValueError) as error:
        raise SystemExit(f'export_onnx: {error}') from error
    print(f'{args.out}: images (batch, '
          f'{", ".join(map(str, report["input"]))}), '
          f'{report["scan_nodes"]} Scan nodes, outputs differ by at most '
          f'{report["difference"]:.2g}')


if __name__ == '__main__':
    main()
