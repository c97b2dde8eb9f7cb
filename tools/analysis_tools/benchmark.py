"""Latency, throughput and peak memory of a model, with the conditions.

    python tools/analysis_tools/benchmark.py CONFIG --batch-size 128
    python tools/analysis_tools/benchmark.py CONFIG --train --cuda-graph

A training step is the forward pass, cross-entropy and the backward pass,
without data loading and optimizer.
"""
import argparse
import json
import os
import platform

import torch
from mmpretrain.apis import get_model

import transmamba_mm  # noqa: F401  (before torchvision is imported)
from transmamba_mm.ops import get_scan_backend
from transmamba_mm.utils.benchmark import measure_speed

DTYPES = dict(fp32=torch.float32, bf16=torch.bfloat16, fp16=torch.float16)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', nargs='?', help='weights file')
    parser.add_argument('--batch-size', type=int, default=1)
    parser.add_argument(
        '--resolution',
        type=int,
        help="image side in pixels; default: the backbone's img_size")
    parser.add_argument(
        '--precision',
        choices=DTYPES,
        default='fp32',
        help='bf16 and fp16 are autocast over float32 weights')
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument(
        '--train',
        action='store_true',
        help='time the training step, not the forward pass')
    parser.add_argument(
        '--cuda-graph',
        action='store_true',
        help='record it as a CUDA graph first and time the replay')
    parser.add_argument('--warmup', type=int, default=5)
    parser.add_argument('--repeats', type=int, default=20)
    parser.add_argument('--out', help='JSON file to write')
    args = parser.parse_args()
    if args.repeats < 2:
        parser.error('--repeats must be at least 2, for a median and a spread')
    if args.cuda_graph and torch.device(args.device).type != 'cuda':
        parser.error('--cuda-graph needs a CUDA device, but the model runs on '
                     f'--device {args.device}; leave --cuda-graph out')
    return args


def device_name(device: str) -> str:
    """Name the card, or the processor and its threads."""
    if torch.device(device).type == 'cuda':
        return torch.cuda.get_device_name(device)
    return f'{platform.machine()} CPU, {torch.get_num_threads()} threads'


def scan_backend(model: torch.nn.Module, args: argparse.Namespace) -> str:
    """Name the back end that the timed scans ran on."""
    if not any(hasattr(m, 'scan_backend') for m in model.modules()):
        return 'no scan'
    asked = getattr(model.backbone, 'scan_backend', None)
    probe = torch.zeros(1, device=args.device, dtype=DTYPES[args.precision])
    return os.environ.get('TRANSMAMBA_SCAN_BACKEND') or asked or \
        get_scan_backend(probe)


def main() -> None:
    args = parse_args()
    model = get_model(args.config, pretrained=args.checkpoint or False)
    model.distiller = None
    side = args.resolution or getattr(model.backbone, 'img_size', (224, ))[0]
    result = measure_speed(
        model, (args.batch_size, 3, side, side),
        args.device,
        DTYPES[args.precision],
        warmup=args.warmup,
        repeats=args.repeats,
        train=args.train,
        cuda_graph=args.cuda_graph)
    result.update(
        config=args.config,
        mode='train' if args.train else 'infer',
        timing='graph' if args.cuda_graph else 'eager',
        card=device_name(args.device),
        batch=args.batch_size,
        resolution=side,
        precision=args.precision,
        backend=scan_backend(model, args),
        torch=torch.__version__)
    for key, value in result.items():
        shown = f'{value:.3f}' if isinstance(value, float) else value
        print(f'{key:14} {shown}')
    if args.out:
        with open(args.out, 'w') as f:
            json.dump(result, f)


if __name__ == '__main__':
    main()
