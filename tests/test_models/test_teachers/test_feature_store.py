"""Features on disk: exact, whole or not there, small files."""
import os
import time

import pytest
import torch

from transmamba_mm.models.teachers.feature_store import FeatureStore

FEATURES = dict(a=torch.randn(5, 3), b=torch.randn(4).half())


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_what_is_written_is_read(tmp_path, dtype):
    store = FeatureStore(str(tmp_path), dtype)
    assert store.read('x') is None
    size = store.write('x', FEATURES, [1., 2.])
    assert size == os.path.getsize(store.path('x')) == store.image_bytes()
    features, marks = FeatureStore(str(tmp_path)).read('x')
    assert marks == [1., 2.]
    for name, x in FEATURES.items():
        assert features[name].dtype == x.dtype
        assert torch.equal(features[name], x.to(dtype).to(x.dtype))
    assert store.count() == 1


@pytest.mark.parametrize('damage', ['cut', 'flip', 'empty', 'other'])
def test_damaged_files_are_missing(tmp_path, damage):
    store = FeatureStore(str(tmp_path))
    store.write('x', FEATURES, [0.])
    path = store.path('x')
    with open(path, 'rb') as file:
        data = bytearray(file.read())
    if damage == 'cut':
        data = data[:-7]
    elif damage == 'flip':
        data[-20] ^= 1
    elif damage == 'empty':
        data = b''
    with open(path, 'wb') as file:
        file.write(data)
    if damage == 'other':  # another key's file
        os.makedirs(os.path.dirname(store.path('y')), exist_ok=True)
        os.replace(path, store.path('y'))
        path = store.path('y')
        assert store.read('y') is None
    assert store.read('x') is None
    store.write('x', FEATURES, [0.])
    assert store.read('x') is not None


def test_leftovers_of_a_kill_are_removed(tmp_path, monkeypatch):
    store = FeatureStore(str(tmp_path))
    store.write('x', FEATURES, [0.])
    folder = os.path.dirname(store.path('x'))
    old, young = (os.path.join(folder, f'{n}.part') for n in 'ab')
    for path in (old, young):
        open(path, 'w').close()
    os.utime(old, (0, time.time() - 7200))
    assert store.count() == 1
    assert not os.path.exists(old) and os.path.exists(young)


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    store = FeatureStore(str(tmp_path))

    def fail(*args):
        raise OSError('disk full')

    monkeypatch.setattr(os, 'replace', fail)
    with pytest.raises(OSError, match='disk full'):
        store.write('x', FEATURES, [0.])
    assert os.listdir(os.path.dirname(store.path('x'))) == []
