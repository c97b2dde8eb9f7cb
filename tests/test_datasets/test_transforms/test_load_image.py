import cv2
import numpy as np
import pytest
from mmengine.dataset import DefaultSampler
from mmpretrain.registry import DATASETS, TRANSFORMS
from torch.utils.data import DataLoader

from transmamba_mm.datasets.transforms import LoadImage, TokenizeConversation
from ...vqa_toy import words_like
from ..image_folder import make_image_folder


@pytest.fixture
def root(tmp_path):
    return make_image_folder(tmp_path / 'set', dict(a=4, b=4))


def build(root, test_mode=False, **kwargs):
    return DATASETS.build(
        dict(
            type='transmamba_mm.ImageFolderDataset',
            data_root=str(root),
            test_mode=test_mode,
            pipeline=[dict(type='transmamba_mm.LoadImage', **kwargs)]))


def break_image(path, how):
    if how == 'empty':
        path.write_bytes(b'')
    elif how == 'text':
        path.write_text('<html>404 Not Found</html>')
    elif how == 'truncated':
        path.write_bytes(path.read_bytes()[:40])
    elif how == 'missing':
        path.unlink()


def test_loads_what_mmcv_loads(root):
    results = dict(img_path=str(root / 'a' / '0.png'))
    ours = TRANSFORMS.build(dict(type='transmamba_mm.LoadImage'))
    theirs = TRANSFORMS.build(dict(type='LoadImageFromFile'))
    a, b = ours(dict(results)), theirs(dict(results))
    assert np.array_equal(a.pop('img'), b.pop('img')) and a == b


@pytest.mark.parametrize('how', ['empty', 'text', 'truncated', 'missing'])
def test_error_names_the_file_and_the_key(root, how):
    dataset = build(root)
    break_image(root / 'b' / '1.png', how)
    with pytest.raises(ValueError) as info:
        dataset[5]
    for part in (str(root / 'b' / '1.png'), 'data_root',
                 'train_dataloader.dataset.pipeline', '--resume'):
        assert part in str(info.value)


def test_error_comes_through_workers(root):
    dataset = build(root)
    break_image(root / 'b' / '1.png', 'empty')
    loader = DataLoader(
        dataset,
        num_workers=1,
        sampler=DefaultSampler(dataset),
        batch_size=8,
        collate_fn=list)
    batches = iter(loader)
    with pytest.raises(ValueError, match='b/1.png'):
        next(batches)
    batches._shutdown_workers()


def test_skip_takes_another_image_and_says_so_once(root, monkeypatch):
    messages = []
    monkeypatch.setattr(
        'transmamba_mm.datasets.transforms.load_image.print_log',
        lambda message, **kwargs: messages.append(message))
    dataset = build(root, on_broken='skip')
    break_image(root / 'b' / '1.png', 'text')
    for _ in range(3):
        assert dataset[5]['img_path'] != str(root / 'b' / '1.png')
        assert dataset[5]['img'].shape == (8, 8, 3)
    assert len(messages) == 1 and str(root / 'b' / '1.png') in messages[0]


def test_evaluation_never_skips(root):
    dataset = build(root, test_mode=True, on_broken='skip')
    break_image(root / 'b' / '1.png', 'text')
    with pytest.raises(Exception):
        dataset[5]


def test_refuses_unknown_choice():
    with pytest.raises(ValueError, match="on_broken must be one of"):
        TRANSFORMS.build(
            dict(type='transmamba_mm.LoadImage', on_broken='ignore'))


def test_image_of_an_inferencer_stays():
    """They load the image themselves and remove only MMCV's own step."""
    load = TRANSFORMS.build(dict(type='transmamba_mm.LoadImage'))
    image = np.zeros((4, 4, 3), np.uint8)
    assert load(dict(img=image))['img'] is image


def test_cached_images_are_read_once(tmp_path):
    path = tmp_path / 'image.png'
    cv2.imwrite(str(path), np.full((4, 6, 3), 7, np.uint8))
    plain, cached = (LoadImage(cache=cache) for cache in (False, True))
    first = cached(dict(img_path=str(path), note=1))
    assert first.keys() == plain(dict(img_path=str(path), note=1)).keys()
    path.unlink()
    again = cached(dict(img_path=str(path), note=2))
    assert again['img'] is first['img'] and again['note'] == 2
    assert again['ori_shape'] == again['img_shape'] == (4, 6)
    with pytest.raises(ValueError):  # later steps must not change it
        again['img'][0] = 0
    with pytest.raises(ValueError, match='cannot be read'):
        plain(dict(img_path=str(path)))


def test_cached_texts_are_read_once(tmp_path):
    words_like().save_pretrained(tmp_path)
    plain, cached = (
        TokenizeConversation(str(tmp_path), cache=cache)
        for cache in (False, True))
    sample = dict(question='What is this?', gt_answer='no')
    want = plain(dict(sample))
    for _ in range(2):
        got = cached(dict(sample))
        assert got.keys() == want.keys()
        assert (got['input_ids'] == want['input_ids']).all()
        assert (got['labels'] == want['labels']).all()
    cached.tokenizer = None  # a text that was seen needs none
    cached(dict(sample))
    with pytest.raises(ValueError, match='NoneType'):
        cached(dict(sample, gt_answer='yes'))
