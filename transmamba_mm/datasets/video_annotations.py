"""Readers of video-text annotation files.

Each returns the captions of each video, in the file's order.
"""
import csv
import io
import json
import os
import pickle
from collections import Counter
from typing import Any, Dict, List, Optional, Sequence, Tuple

Captions = Dict[str, List[str]]
SPLITS = dict(train='train', val='validate', validate='validate', test='test')


def read_msrvtt(ann_file: str, split_file: str, split: str) -> Captions:
    """Read MSR-VTT.

    Args:
        ann_file (str): The json with ``videos`` and ``sentences``, or ''
            where the csv has the captions.
        split_file (str): A csv with ``video_id`` and, in the test file of the
            1k-A split, ``sentence``; a text file with one name a line; or ''.
        split (str): Without ``split_file``: the json's own split, 'train',
            'val' or 'test'.

    Returns:
        Captions: Captions by video name, such as 'video7020'.

    Raises:
        ValueError: A file has not this form.
    """
    rows = read_split(split_file) if split_file else None
    if rows and 'sentence' in rows[0]:
        return {row['video_id']: [row['sentence']] for row in rows}
    if not ann_file:
        raise ValueError(
            f'{split_file!r} has no captions (column `sentence`); give the '
            'json file of MSR-VTT as `ann_file` of the dataset')
    content = _read_json(ann_file)
    try:
        splits = {str(v['video_id']): v['split'] for v in content['videos']}
        pairs = [(str(s['video_id']), s.get('caption'))
                 for s in content['sentences']]
    except (KeyError, TypeError, AttributeError) as error:
        raise _bad_form(
            ann_file, 'the json of MSR-VTT, with `videos` (video_id, split) '
            'and `sentences` (video_id, caption)') from error
    if rows:
        return _choose(_group(pairs), [r['video_id'] for r in rows], ann_file)
    if split not in SPLITS:
        raise ValueError(
            f"`split` of MSR-VTT must be 'train', 'val' or 'test', got "
            f'{split!r}; or give `split_file`')
    wanted = [name for name, part in splits.items() if part == SPLITS[split]]
    return _choose(_group(pairs), wanted, ann_file)


def read_msvd(ann_file: str, split_file: str, split: str) -> Captions:
    """Read MSVD.

    Args:
        ann_file (str): ``AllVideoDescriptions.txt`` (name, blank, caption on
            each line), or the pickle or json of video name to captions that
            retrieval codes use, where a caption may be a list of words.
        split_file (str): Text file with one video name a line.
        split (str): Not used.

    Returns:
        Captions: Captions by video name.

    Raises:
        ValueError: A file has not this form.
    """
    if ann_file.endswith(('.pkl', '.pickle')):
        content = _read_plain_pickle(ann_file)
    elif ann_file.endswith('.json'):
        content = _read_json(ann_file)
    else:
        lines = _read_text(ann_file).splitlines()
        content = _group([
            tuple((*line.split(None, 1), '')[:2]) for line in lines
            if line.strip() and not line.startswith('#')
        ])
    if not isinstance(content, dict):
        raise _bad_form(ann_file, 'video names with their captions')
    captions = {
        str(name): [_sentence(text) for text in texts]
        for name, texts in content.items()
    }
    if not split_file:
        return captions
    names = [row['video_id'] for row in read_split(split_file)]
    return _choose(captions, names, ann_file)


def read_didemo(ann_file: str, split_file: str, split: str) -> Captions:
    """Read DiDeMo, whose sentences of one video make a paragraph.

    Args:
        ann_file (str): ``train_data.json``, ``val_data.json`` or
            ``test_data.json``: a list with ``video`` and ``description``.
        split_file (str): Text file with one video name a line; '' takes all.
        split (str): Not used.

    Returns:
        Captions: One caption a video, the sentences in the file's order.

    Raises:
        ValueError: A file has not this form.
    """
    try:
        pairs = [(row['video'], row['description'])
                 for row in _read_json(ann_file)]
    except (KeyError, TypeError) as error:
        raise _bad_form(
            ann_file, 'a json list with `video` and `description`') from error
    captions = {n: [join(texts)] for n, texts in _group(pairs).items()}
    if not split_file:
        return captions
    names = [row['video_id'] for row in read_split(split_file)]
    return _choose(captions, names, ann_file)


def read_table(ann_file: str, split_file: str,
               split: str) -> Tuple[Captions, Dict[str, str]]:
    """Read a plain table: csv, json lines, or a json list.

    Args:
        ann_file (str): Each row has ``video`` and ``caption`` (in json a
            string or a list of strings) and may have ``gallery``, the name
            of the set of videos to search, and ``split``.
        split_file (str): Text file with one video name a line; '' takes all.
        split (str): Takes the rows of this ``split``; '' takes all.

    Returns:
        tuple: Captions by video name, and the gallery of those that have one.

    Raises:
        ValueError: The file has not this form.
    """
    rows = _read_rows(ann_file)
    pairs: List[Tuple[str, Any]] = []
    galleries: Dict[str, str] = {}
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not row.get('video') or \
                'caption' not in row:
            raise ValueError(
                f'row {number} of {ann_file!r} must have `video` and '
                f'`caption`, got {row!r}')
        if split and row.get('split') != split:
            continue
        name, texts = str(row['video']), row['caption']
        texts = texts if isinstance(texts, list) else [texts]
        pairs += [(name, text) for text in texts or ['']]
        gallery = row.get('gallery')
        gallery = '' if gallery is None else str(gallery)
        if galleries.setdefault(name, gallery) != gallery:
            raise ValueError(
                f'row {number} of {ann_file!r} puts the video {name!r} into '
                f'the gallery {gallery!r}, an earlier row into '
                f'{galleries[name]!r}')
    captions = _group(pairs)
    galleries = _check_galleries(galleries, ann_file)
    if split_file:
        names = [row['video_id'] for row in read_split(split_file)]
        captions = _choose(captions, names, ann_file)
    return captions, galleries


def read_split(path: str) -> List[Dict[str, str]]:
    """Read which videos a split has.

    Args:
        path (str): A csv with a column ``video_id``, or a text file with one
            name a line.

    Returns:
        List[Dict[str, str]]: Rows with ``video_id``.

    Raises:
        ValueError: It is empty, names a video twice, or has no such column.
    """
    if path.endswith('.csv'):
        rows = _read_csv(path)
        if rows and 'video_id' not in rows[0]:
            raise _bad_form(path, 'a csv with a column `video_id`')
    else:
        rows = [
            dict(video_id=line.strip())
            for line in _read_text(path).splitlines() if line.strip()
        ]
    if not rows:
        raise ValueError(f'the split file {path!r} is empty')
    counts = Counter(row['video_id'] for row in rows)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise ValueError(
            f'the split file {path!r} names {len(twice)} videos more than '
            f'once: {twice[:5]}')
    return rows


def join(texts: Sequence[Optional[str]]) -> str:
    """Join the sentences of a video into a paragraph.

    Args:
        texts (Sequence[str]): Sentences; empty ones are left out.

    Returns:
        str: The paragraph.
    """
    return ' '.join(str(text).strip() for text in texts if text)


READERS = dict(
    msrvtt=read_msrvtt, msvd=read_msvd, didemo=read_didemo, table=read_table)


def _choose(captions: Captions, names: Sequence[str], source: str) -> Captions:
    """Take the videos of a split, whose list may leave extensions out."""
    known = dict(captions)
    for name in captions:
        known.setdefault(os.path.splitext(name)[0], captions[name])
    absent = [name for name in names if name not in known]
    if absent:
        raise ValueError(
            f'{len(absent)} of {len(names)} videos of the split have no '
            f'captions in {source!r}: {absent[:5]}; check `ann_file` and '
            '`split_file` of the dataset')
    return {name: known[name] for name in names}


def _check_galleries(galleries: Dict[str, str], source: str) -> Dict[str, str]:
    """Refuse videos without a gallery beside those that have one."""
    without = [name for name, gallery in galleries.items() if not gallery]
    if 0 < len(without) < len(galleries):
        raise ValueError(
            f'{len(without)} of {len(galleries)} videos in {source!r} have no '
            f'`gallery`, the others have: {without[:5]}')
    return {} if without else galleries


def _group(pairs: Sequence[Tuple[str, Any]]) -> Captions:
    grouped: Captions = {}
    for name, text in pairs:
        grouped.setdefault(name, []).append(text)
    return grouped


def _sentence(text: Any) -> str:
    return ' '.join(text) if isinstance(text, (list, tuple)) else text


def _read_text(path: str) -> str:
    try:
        with open(path, encoding='utf-8-sig') as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise _bad_form(path, 'a text file in UTF-8') from error


def _read_csv(path: str) -> List[dict]:
    return list(csv.DictReader(io.StringIO(_read_text(path))))


def _read_json(path: str) -> Any:
    try:
        return json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise _bad_form(path, f'json ({error})') from error


def _read_rows(path: str) -> List[dict]:
    if path.endswith('.csv'):
        return _read_csv(path)
    if path.endswith('.json'):
        rows = _read_json(path)
        if not isinstance(rows, list):
            raise _bad_form(path, 'a json list of rows')
        return rows
    rows = []
    for number, line in enumerate(_read_text(path).splitlines(), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise _bad_form(
                    path, f'json lines; line {number}: {error}') from error
    return rows


class _PlainUnpickler(pickle.Unpickler):
    """Reads containers, strings and numbers; runs no code of the file."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f'it holds {module}.{name}')


def _read_plain_pickle(path: str) -> Any:
    try:
        with open(path, 'rb') as file:
            return _PlainUnpickler(file).load()
    except (pickle.UnpicklingError, EOFError, UnicodeDecodeError,
            IndexError) as error:
        raise _bad_form(
            path, f'a pickle of plain lists and strings ({error})') from error


def _bad_form(path: str, form: str) -> ValueError:
    return ValueError(f'{path!r} must be {form}; check `ann_file` and '
                      '`split_file` of the dataset')
