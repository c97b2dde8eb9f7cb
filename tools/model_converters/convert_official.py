"""Convert a public checkpoint of Vim, PlainMamba, VMamba or VideoMamba."""
import argparse
from typing import Dict, Optional

import transmamba_mm  # noqa: F401  (safe loading, registration)
from transmamba_mm.convert import (FAMILIES, Conversion, check_settings,
                                   convert_weights, find_weights,
                                   load_official_file, training_model)
from transmamba_mm.utils.tagged_file import save_tagged

CONFIG_FOLDER = 'configs/_base_/models'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('src', help='file that the official code has written')
    parser.add_argument(
        'dst',
        help='file to write; 8 digits of its SHA-256 '
        'are added to the name')
    parser.add_argument(
        '--family',
        choices=list(FAMILIES),
        help='whose file it is; needed where Vim and VideoMamba both fit')
    parser.add_argument(
        '--num-classes',
        type=int,
        help='refuse a head with another number of classes')
    parser.add_argument(
        '--key',
        help="entry with the weights, for example 'model_ema'; by default "
        "'model', then 'state_dict'")
    return parser.parse_args()


def convert(src: str,
            dst: str,
            family: Optional[str] = None,
            num_classes: Optional[int] = None,
            key: Optional[str] = None) -> Dict[str, str]:
    """Convert a file.

    Args:
        src (str): Official file.
        dst (str): Wanted name.
        family (str, optional): See ``--family``. Defaults to None.
        num_classes (int, optional): See ``--num-classes``. Defaults to None.
        key (str, optional): See ``--key``. Defaults to None.

    Returns:
        Dict[str, str]: What to tell the user, in order; 'file' is the name
        written.

    Raises:
        FileNotFoundError: There is no file ``src``.
        ValueError: It is damaged, or not a model that this package has.
    """
    file = load_official_file(src)
    try:
        weights = find_weights(file.content, key)
        conversion = convert_weights(weights.state, family, num_classes,
                                     training_model(file.content))
        check_settings(file.content, conversion.recognition.family)
    except ValueError as error:
        raise ValueError(f'{src}: {error}') from error
    recognition = conversion.recognition
    report = dict(
        family=recognition.family,
        size=recognition.size,
        era=recognition.era,
        taken_from=f'entry {weights.key!r}' if weights.key else 'the file',
        tensors=f'{len(conversion.state)} of '
        f'{len(weights.state) + len(weights.dropped)} mapped',
        parameters=f'{_count_parameters(conversion):,}')
    if weights.other_keys:
        report['not_taken'] = f'{list(weights.other_keys)} (see --key)'
    left = weights.dropped + conversion.dropped
    if left:
        report['dropped'] = f'{len(left)}, such as {sorted(left)[:3]}'
    if file.ignored:
        report['not_loaded'] = f'{list(file.ignored)} (never imported)'
    report.update(_config_lines(conversion))
    meta = dict(
        family=recognition.family,
        size=recognition.size,
        era=recognition.era,
        model=conversion.model)
    state = {k: v.clone() for k, v in conversion.state.items()}
    report['file'] = save_tagged(dict(state_dict=state, meta=meta), dst)
    return report


def _count_parameters(conversion: Conversion) -> int:
    buffers = ('running_mean', 'running_var', 'num_batches_tracked')
    return sum(v.numel() for k, v in conversion.state.items()
               if not k.endswith(buffers))


def _config_lines(conversion: Conversion) -> Dict[str, str]:
    """Tell which config fits, and what must be changed in it."""
    recognition = conversion.recognition
    model = conversion.model
    if recognition.config is None:
        return dict(config='none; use this model', model=str(model))
    lines = dict(config=f'{CONFIG_FOLDER}/{recognition.config}.py')
    changes = {
        f'model.backbone.{k}': v
        for k, v in model['backbone'].items() if k not in ('type', 'arch')
    }
    if recognition.num_classes is None:
        changes['model.head'] = None
    elif recognition.num_classes != 1000:
        changes['model.head.num_classes'] = recognition.num_classes
    if changes:
        lines['cfg_options'] = ' '.join(f'{k}={v}' for k, v in changes.items())
    return lines


def main() -> None:
    args = parse_args()
    try:
        report = convert(args.src, args.dst, args.family, args.num_classes,
                         args.key)
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(f'convert_official: {error}') from error
    for name, value in report.items():
        print(f'{name + ":":<12} {value}')


if __name__ == '__main__':
    main()
