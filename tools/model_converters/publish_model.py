"""Make a checkpoint ready to hand out: the student alone."""
import argparse

from mmengine.runner import CheckpointLoader

import transmamba_mm  # noqa: F401  (safe loading)
from transmamba_mm.utils.tagged_file import save_tagged


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('in_file', help='checkpoint of a training')
    parser.add_argument(
        'out_file',
        help='file to write; 8 digits of its '
        'SHA-256 are added to the name')
    return parser.parse_args()


def student_checkpoint(checkpoint: dict) -> dict:
    """Keep the student's weights and what inference needs.

    Args:
        checkpoint (dict): As MMEngine saves it.

    Returns:
        dict: ``state_dict`` without the distiller, and ``meta`` with the
        data set's classes.

    Raises:
        ValueError: It is no checkpoint of a training.
    """
    if 'state_dict' not in checkpoint:
        raise ValueError(
            "in_file holds no 'state_dict', but "
            f'{sorted(map(str, checkpoint))[:5]}: give a checkpoint that '
            'tools/train.py has written.')
    state = {
        k: v
        for k, v in checkpoint['state_dict'].items()
        if not k.startswith('distiller.')
    }
    meta = checkpoint.get('meta', {})
    kept = {k: meta[k] for k in ('dataset_meta', 'epoch') if k in meta}
    return dict(state_dict=state, meta=kept)


def publish(in_file: str, out_file: str) -> str:
    """Write the file under a name that holds its checksum.

    Args:
        in_file (str): Checkpoint of a training.
        out_file (str): Wanted name.

    Returns:
        str: The name written.
    """
    checkpoint = CheckpointLoader.load_checkpoint(in_file, 'cpu')
    return save_tagged(student_checkpoint(checkpoint), out_file)


def main() -> None:
    args = parse_args()
    final = publish(args.in_file, args.out_file)
    print(f'{final}\nIt loads into the plain classifier of the same student, '
          'for example: mmpretrain.get_model(CONFIG, pretrained=FILE)')


if __name__ == '__main__':
    main()
