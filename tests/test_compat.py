"""Each piece of the compatibility layer, and that it is needed."""
import http.server
import os
import os.path as osp
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from transmamba_mm import compat

ROOT = osp.abspath(osp.join(osp.dirname(__file__), '..'))


class Touch:
    """Pickles as a call that makes a file."""

    def __init__(self, path, function='os.system'):
        self.path, self.function = str(path), function

    def __reduce__(self):
        if self.function == 'os.system':
            return os.system, (f'touch {self.path}', )
        if self.function == 'eval':
            return eval, (f'open({self.path!r}, "w")', )
        return getattr, (HistoryBuffer, '__init__')


def load(path):
    return CheckpointLoader.load_checkpoint(str(path), logger='silent')


@pytest.fixture
def mmengine_checkpoint(tmp_path):
    """What MMEngine stores beside weights."""
    buffer = HistoryBuffer()
    buffer.update(1.5, 2)
    path = tmp_path / 'epoch_1.pth'
    torch.save(
        dict(
            state_dict=nn.Linear(2, 2).state_dict(),
            message_hub=dict(
                log_scalars={'train/loss': buffer},
                runtime_info=dict(best=np.float64(0.5), flag=np.bool_(True))),
            meta=dict(
                epoch=1,
                dataset_meta=dict(
                    palette=np.arange(6).reshape(2, 3),
                    names=np.array(['a', 'b']))),
            random_states=[np.random.get_state()]), path)
    return path


def test_mmengine_checkpoint_loads(mmengine_checkpoint):
    with pytest.raises(pickle.UnpicklingError):
        torch.load(mmengine_checkpoint)  # the piece is needed
    checkpoint = load(mmengine_checkpoint)
    buffer = checkpoint['message_hub']['log_scalars']['train/loss']
    assert buffer.mean() == 0.75 and buffer.statistics('current') == 1.5
    assert checkpoint['message_hub']['runtime_info'] == dict(
        best=0.5, flag=True)
    assert checkpoint['meta']['dataset_meta']['palette'].shape == (2, 3)
    assert np.array_equal(checkpoint['random_states'][0][1],
                          np.random.get_state()[1])
    model = nn.Linear(2, 2)
    load_checkpoint(model, str(mmengine_checkpoint))
    assert torch.equal(model.weight, checkpoint['state_dict']['weight'])


def test_arrays_of_numpy_1_and_2_load(tmp_path):
    """The module that rebuilds arrays has two names."""
    path = tmp_path / 'array.pth'
    torch.save(
        dict(array=np.arange(3.)), path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    for name in (b'numpy.core.multiarray', b'numpy._core.multiarray'):
        module = np.zeros(1).__reduce__()[0].__module__.encode()
        assert module in data
        path.write_bytes(data.replace(module, name))
        assert load(path)['array'].tolist() == [0, 1, 2]


@pytest.mark.parametrize('function', ['os.system', 'eval', 'getattr'])
@pytest.mark.parametrize('new_format', [True, False])
def test_code_in_a_checkpoint_is_refused(tmp_path, function, new_format):
    touched, path = tmp_path / 'touched', tmp_path / 'evil.pth'
    torch.save(
        dict(state_dict=Touch(touched, function)),
        path,
        _use_new_zipfile_serialization=new_format)
    with pytest.raises(ValueError, match='refused.*would run code') as info:
        load(path)
    assert str(path) in str(info.value)
    assert not touched.exists()
    if function != 'getattr':
        torch.load(path, weights_only=False)
        assert touched.exists()  # the file is as bad as it claims


def test_only_public_methods_of_the_buffer_are_given():
    give = compat._history_buffer_method
    assert give(HistoryBuffer, 'mean') is HistoryBuffer.mean
    for args in ((HistoryBuffer, '__init__'), (HistoryBuffer, 'nothing'),
                 (HistoryBuffer(), 'mean'), (os, 'system'),
                 (HistoryBuffer, '_statistics_methods'),
                 (HistoryBuffer, 'mean', None), (HistoryBuffer, 3)):
        with pytest.raises(pickle.UnpicklingError):
            give(*args)


def test_environment_cannot_switch_the_protection_off(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    touched, path = tmp_path / 'touched', tmp_path / 'evil.pth'
    torch.save(Touch(touched), path)
    with pytest.raises(ValueError, match='refused'):
        load(path)
    assert not touched.exists()


def test_downloads_run_no_code(tmp_path, monkeypatch, mmengine_checkpoint):
    """MMEngine's http loader unpickles anything without this piece."""
    touched = tmp_path / 'touched'
    torch.save(Touch(touched), tmp_path / 'evil.pth')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    monkeypatch.setenv('no_proxy', '*')

    class Handler(http.server.SimpleHTTPRequestHandler):

        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f'http://127.0.0.1:{server.server_port}'
        with pytest.raises(ValueError, match='refused'):
            load(f'{url}/evil.pth')
        assert not touched.exists()
        assert load(f'{url}/epoch_1.pth')['meta']['epoch'] == 1
        server.shutdown()


@pytest.mark.parametrize('new_format', [True, False])
def test_damaged_file_is_named(tmp_path, new_format):
    path = tmp_path / 'epoch_1.pth'
    torch.save(
        dict(state_dict=dict(w=torch.zeros(1000))),
        path,
        _use_new_zipfile_serialization=new_format)
    data = path.read_bytes()
    for size in (0, 10, 100, 200, len(data) // 2, len(data) - 10):
        path.write_bytes(data[:size])
        with pytest.raises(ValueError, match='truncated, damaged') as info:
            load(path)
        assert str(path) in str(info.value) and 'load_from' in str(info.value)


def test_other_files_are_named(tmp_path):
    path = tmp_path / 'pointer.pth'
    path.write_text('version https://git-lfs.github.com/spec/v1\n')
    with pytest.raises(ValueError, match='not a PyTorch checkpoint'):
        load(path)
    with pytest.raises(FileNotFoundError, match='missing.pth.*load_from'):
        load(tmp_path / 'missing.pth')


def test_unrelated_errors_are_left_alone(tmp_path):
    with pytest.raises(KeyError):
        load('mmcls://no_such_model')
    path = tmp_path / 'good.pth'
    torch.save(dict(w=torch.zeros(1)), path)
    with pytest.raises(RuntimeError, match='no_such_device'):
        CheckpointLoader.load_checkpoint(
            str(path), map_location='no_such_device', logger='silent')


def test_in1d():
    assert np.in1d([1, 2, 3], [2, 4]).tolist() == [False, True, False]
    from mmpretrain.evaluation import RetrievalRecall
    recall = RetrievalRecall.calculate([np.array([0, 1])], [np.array([1])],
                                       (1, 2),
                                       pred_indices=True,
                                       target_indices=True)
    assert [float(r) for r in recall] == [0., 100.]


def test_in1d_is_given_back(monkeypatch):
    monkeypatch.delattr(np, 'in1d')
    compat.ensure_in1d()
    assert np.in1d is np.isin


def run_python(code, tmp_path, *path):
    """Run code in a process of its own; return its status and output."""
    result = subprocess.run(
        [sys.executable, '-c', code],
        cwd=tmp_path,
        env=dict(
            os.environ,
            PYTHONPATH=os.pathsep.join([str(p) for p in path] + [ROOT])),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120)
    return result.returncode, result.stdout


FAKE_TORCHVISION = '''
import torch
torch.library.Library('torchvision', 'FRAGMENT')
for name in ('nms', 'qnms'):
    torch.library.register_fake(f'torchvision::{name}', lambda *args: args[0])
from . import transforms
'''


def test_torchvision_without_its_operators(tmp_path):
    """The import of a torchvision whose compiled part cannot be loaded."""
    package = tmp_path / 'torchvision'
    (package / 'transforms').mkdir(parents=True)
    (package / '__init__.py').write_text(FAKE_TORCHVISION)
    (package / 'transforms' / '__init__.py').write_text('LOADED = True')
    status, output = run_python('import torchvision', tmp_path, tmp_path)
    assert status != 0 and 'operator torchvision::nms' in output
    status, output = run_python(
        'from transmamba_mm import compat\n'
        'import torchvision.transforms\n'
        'assert torchvision.transforms.LOADED\n'
        f'assert torchvision.__file__.startswith({str(tmp_path)!r})', tmp_path,
        tmp_path)
    assert status == 0, output


def test_installed_torchvision_works():
    from torchvision import transforms
    image = torch.zeros(3, 4, 4)
    assert transforms.Resize(2, antialias=True)(image).shape == (3, 2, 2)


def test_mmpretrain_accepts_the_installed_versions():
    """MMPretrain has version assertions of its own."""
    import mmpretrain
    assert mmpretrain.__version__
