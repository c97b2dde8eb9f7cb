"""Cost of a generated token after texts of 64 to 2,048 tokens.

    python benchmarks/generation.py --kinds mamba llama

A Mamba goes on from a state of constant size; a Transformer reads its cache
of all tokens before. On a CPU one thread is used, and its own time counted.
"""
import argparse
import json
import time
from statistics import median
from typing import Any, Dict, List

import torch
from torch import nn

import transmamba_mm  # noqa: F401
from transmamba_mm.models.multimodal.language_models import \
    build_language_model

LENGTHS = (64, 128, 256, 512, 1024, 2048)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--kinds',
        nargs='+',
        default=['mamba'],
        choices=['mamba', 'mamba2', 'llama'])
    parser.add_argument('--width', type=int, default=256)
    parser.add_argument('--layers', type=int, default=4)
    parser.add_argument('--words', type=int, default=2048)
    parser.add_argument('--lengths', type=int, nargs='+', default=LENGTHS)
    parser.add_argument(
        '--tokens', type=int, default=64, help='tokens that are timed')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--json', help='file to write')
    return parser.parse_args()


def build(kind: str, args: argparse.Namespace) -> nn.Module:
    """Build a language model with random weights."""
    config = dict(
        model_type=kind,
        vocab_size=args.words,
        hidden_size=args.width,
        num_hidden_layers=args.layers,
        tie_word_embeddings=True)
    if kind == 'llama':
        config.update(
            num_attention_heads=args.width // 64,
            intermediate_size=8 * args.width // 3,
            max_position_embeddings=4 * max(args.lengths))
    if kind == 'mamba2':
        config.update(num_heads=args.width // 32, head_dim=64, n_groups=1)
    torch.manual_seed(0)
    return build_language_model(config).to(args.device).eval()


def clock(device: str) -> float:
    """Return the seconds so far: on a CPU those of this thread, so that other
    programs do not count; on a card those until it has finished."""
    if device.startswith('cuda'):
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.thread_time()


def cache_bytes(cache: Any) -> int:
    """Count the memory that the tokens before take."""
    if hasattr(cache, 'num_bytes'):
        return cache.num_bytes
    layers = list(cache)
    return sum(t.numel() * t.element_size() for layer in layers for t in layer
               if torch.is_tensor(t))


@torch.no_grad()
def measure(model: nn.Module, length: int,
            args: argparse.Namespace) -> Dict[str, float]:
    """Time single steps after a prompt.

    Args:
        model (nn.Module): The language model.
        length (int): Tokens of the prompt.
        args (argparse.Namespace): The command line.

    Returns:
        Dict[str, float]: Median milliseconds a step, and bytes of the cache.
    """
    prompt = torch.randint(args.words, (1, length), device=args.device)
    out = model(input_ids=prompt, use_cache=True)
    times = []
    for _ in range(args.tokens):
        token = out.logits[:, -1:].argmax(-1)
        start = clock(args.device)
        out = model(
            input_ids=token,
            past_key_values=out.past_key_values,
            use_cache=True)
        times.append(1000 * (clock(args.device) - start))
    return dict(
        tokens=length,
        milliseconds=round(median(times), 3),
        cache_bytes=cache_bytes(out.past_key_values))


def table(kind: str, size: int, rows: List[Dict[str, float]]) -> str:
    """Format the rows of a model."""
    head = (f'{kind}, {size / 1e6:.2f}M parameters, '
            f'{torch.get_num_threads()} thread(s), torch {torch.__version__}')
    lines = ['tokens before   ms a token   cache KiB']
    lines += [
        f'{row["tokens"]:13d}   {row["milliseconds"]:10.2f}   '
        f'{row["cache_bytes"] / 1024:9.0f}' for row in rows
    ]
    return '\n'.join([head, *lines])


def main() -> None:
    args = parse_args()
    if args.device == 'cpu':
        torch.set_num_threads(1)
    results = []
    for kind in args.kinds:
        model = build(kind, args)
        size = sum(p.numel() for p in model.parameters())
        measure(model, min(args.lengths), args)  # warm up
        rows = [measure(model, length, args) for length in args.lengths]
        print(table(kind, size, rows), flush=True)
        results.append(dict(kind=kind, parameters=size, rows=rows))
    if args.json:
        with open(args.json, 'w') as file:
            json.dump(results, file, indent=2)


if __name__ == '__main__':
    main()
