"""Search a folder of videos by text, and save a picture of the results."""
import argparse

import transmamba_mm  # noqa: F401  (safe loading)
from transmamba_mm.apis import TextVideoRetriever


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of a text-video retrieval')
    parser.add_argument('checkpoint', help='its trained weights')
    parser.add_argument('videos', help='folder of videos')
    parser.add_argument('texts', nargs='+', help='what to look for')
    parser.add_argument('--out', default='sheet.png', help='picture to write')
    parser.add_argument('--topk', type=int, default=5, help='videos a text')
    parser.add_argument(
        '--rerank-topk',
        type=int,
        default=16,
        help='candidates that a cross-Mamba head judges again')
    parser.add_argument('--device', help='such as cpu or cuda:0')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    retriever = TextVideoRetriever(
        args.config, args.checkpoint, args.videos, device=args.device)
    results = retriever.save_sheet(
        args.texts, args.out, topk=args.topk, rerank_topk=args.rerank_topk)
    for text, found in zip(args.texts, results):
        print(text)
        for place, video in enumerate(found, 1):
            print(f'  {place}. {video["score"]:.3f}  {video["video_path"]}')
    print(f'picture: {args.out}')


if __name__ == '__main__':
    main()
