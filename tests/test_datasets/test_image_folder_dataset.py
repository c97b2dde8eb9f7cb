import pytest
from mmpretrain.registry import DATASETS

from .image_folder import make_image_folder


def build(root, **kwargs):
    return DATASETS.build(
        dict(
            type='transmamba_mm.ImageFolderDataset',
            data_root=str(root),
            **kwargs))


def test_reads_what_custom_dataset_reads(tmp_path):
    make_image_folder(tmp_path, dict(a=2, b=3))
    (tmp_path / 'a' / 'notes.txt').write_text('not an image')
    ours = build(tmp_path)
    theirs = DATASETS.build(
        dict(type='CustomDataset', data_root=str(tmp_path)))
    assert len(ours) == len(theirs) == 5
    assert ours.metainfo == theirs.metainfo
    for i in range(5):
        assert ours.get_data_info(i) == theirs.get_data_info(i)


@pytest.mark.parametrize('test_mode, loader', [
    (False, 'train_dataloader'),
    (True, 'val_dataloader'),
])
def test_errors_name_the_folder_and_the_key(tmp_path, test_mode, loader):
    missing = tmp_path / 'missing'
    with pytest.raises(FileNotFoundError, match=str(missing)) as info:
        build(missing, test_mode=test_mode)
    assert 'data_root' in str(info.value) and loader in str(info.value)
    empty = tmp_path / 'empty'
    empty.mkdir()
    (empty / 'flat.png').write_bytes(b'')
    with pytest.raises(ValueError, match='no sub-folders') as info:
        build(empty, test_mode=test_mode)
    assert str(empty) in str(info.value) and loader in str(info.value)
    (empty / 'cat').mkdir()
    (empty / 'cat' / 'readme.txt').write_text('no image')
    with pytest.raises(ValueError, match='no images') as info:
        build(empty, test_mode=test_mode)
    assert str(empty) in str(info.value) and loader in str(info.value)


def test_wrong_number_of_classes(tmp_path):
    make_image_folder(tmp_path, dict(a=1, b=1))
    with pytest.raises(ValueError, match=r'subfolders \(2\).*`classes`'):
        build(tmp_path, classes=['a', 'b', 'c'])


def test_missing_annotation_file(tmp_path):
    make_image_folder(tmp_path, dict(a=1))
    with pytest.raises(FileNotFoundError, match='`ann_file`'):
        build(tmp_path, ann_file='meta/train.txt')
