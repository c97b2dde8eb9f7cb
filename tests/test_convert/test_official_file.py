"""Reading an official file runs nothing that is in it."""
import argparse
import builtins
import collections
import os
import pickle
import sys
import tarfile
import types
import zipfile

import pytest
import torch
from torch import nn

from transmamba_mm.convert import load_official_file
from transmamba_mm.convert.inert_pickle import Inert

FORMATS = pytest.mark.parametrize('zipped', [True, False])


@pytest.fixture
def foreign():
    """Classes of libraries that are gone when the file is loaded."""

    class ConfigNode(dict):
        """Like the config nodes of VMamba's training code."""

        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.__dict__['frozen'] = True

    class Arguments(argparse.Namespace):
        pass

    module = types.ModuleType('foreign_config')
    for cls in (ConfigNode, Arguments):
        cls.__module__, cls.__qualname__ = 'foreign_config', cls.__name__
        setattr(module, cls.__name__, cls)
    sys.modules['foreign_config'] = module
    yield module
    sys.modules.pop('foreign_config', None)


class Run:
    """Pickles as a call."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def save(content, path, zipped=True, protocol=2):
    torch.save(
        content,
        path,
        _use_new_zipfile_serialization=zipped,
        pickle_protocol=protocol)
    return str(path)


@FORMATS
@pytest.mark.parametrize('protocol', [2, 4])
def test_official_content_loads(tmp_path, foreign, zipped, protocol):
    model = nn.Linear(3, 2).half()
    model.weight._no_weight_decay = True
    view = torch.arange(6.).reshape(2, 3).t()
    content = dict(
        model=model.state_dict(),
        parameter=model.weight,
        view=view,
        empty=torch.zeros(0, 3),
        number=torch.tensor(3),
        args=argparse.Namespace(model='vim_tiny', tags={1, 2}),
        config=foreign.ConfigNode(MODEL=foreign.ConfigNode(NAME='x')),
        arguments=foreign.Arguments(lr=0.1),
        counter=collections.Counter('aab'),
        epoch=3)
    path = save(content, tmp_path / 'official.pth', zipped, protocol)
    del sys.modules['foreign_config']
    file = load_official_file(path)
    loaded = file.content
    assert 'foreign_config' not in sys.modules
    assert {
        'argparse.Namespace', 'foreign_config.ConfigNode',
        'foreign_config.Arguments'
    } <= set(file.ignored)
    for name, value in model.state_dict().items():
        assert torch.equal(loaded['model'][name], value)
        assert loaded['model'][name].dtype == torch.float16
    assert torch.equal(loaded['parameter'], model.weight)
    assert torch.equal(loaded['view'], view)
    assert loaded['empty'].shape == (0, 3) and loaded['number'] == 3
    assert loaded['epoch'] == 3
    assert type(loaded['args']) is not argparse.Namespace
    assert loaded['args'].state['model'] == 'vim_tiny'
    assert loaded['config'].entries['MODEL'].entries == dict(NAME='x')
    assert isinstance(loaded['arguments'], Inert)


@FORMATS
@pytest.mark.parametrize('function', [
    (os.system, 'touch {}'),
    (builtins.eval, 'open({!r}, "w")'),
    (builtins.exec, 'open({!r}, "w")'),
])
def test_nothing_in_a_file_is_called(tmp_path, zipped, function):
    touched = tmp_path / 'touched'
    call, text = function
    evil = Run(call, text.format(str(touched)))
    path = save(
        dict(model=nn.Linear(2, 2).state_dict(), args=evil, more=[evil]),
        tmp_path / 'evil.pth', zipped)
    file = load_official_file(path)
    assert not touched.exists()
    assert set(file.content['model']) == {'weight', 'bias'}
    assert any(call.__name__ in name for name in file.ignored)
    torch.load(path, weights_only=False)
    assert touched.exists()  # the file is as bad as it claims


def test_a_call_cannot_pose_as_a_tensor(tmp_path):
    """A placeholder is refused where a tensor's parts are expected."""
    rebuild = torch._utils._rebuild_tensor_v2
    for evil in (Run(rebuild, Run(os.getcwd), 0, (1, ), (1, ), False,
                     {}), Run(torch._utils._rebuild_parameter, 'x', False,
                              {})):
        path = save(dict(model=evil), tmp_path / 'evil.pth')
        with pytest.raises(ValueError, match='a (tensor|parameter) without'):
            load_official_file(path)


@pytest.mark.parametrize('target, attribute', [
    (b'torch._utils\n_rebuild_tensor_v2', b'_function'),
    (b'collections\nOrderedDict', b'__init__'),
    (b'argparse\nNamespace', b'__init__'),
])
def test_a_file_cannot_change_the_loader(tmp_path, target, attribute):
    """The BUILD operation sets attributes on whatever is on the stack."""
    text = b'X' + len(attribute).to_bytes(4, 'little') + attribute
    state = b'N}' + text + b'K\x01s\x86'  # (None, {attribute: 1})
    path = tmp_path / 'evil.pth'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('evil/data.pkl',
                         b'\x80\x02c' + target + b'\n' + state + b'b.')
        archive.writestr('evil/version', '3\n')
    with pytest.raises(ValueError, match='truncated, damaged or not a PyT'):
        load_official_file(str(path))
    good = save(dict(a=torch.ones(2)), tmp_path / 'good.pth')
    assert load_official_file(good).content['a'].sum() == 2
    with pytest.raises(TypeError, match='cannot be changed'):
        Inert.append = None


def test_other_formats_are_refused(tmp_path):
    """``torch.load`` hands programs and archives to other readers."""
    path = tmp_path / 'program.pth'
    torch.jit.save(torch.jit.script(nn.ReLU()), str(path))
    with pytest.raises(ValueError, match='TorchScript program'):
        load_official_file(str(path))
    with tarfile.open(path, 'w') as archive:
        archive.add(__file__, 'pickle')
    with pytest.raises(ValueError, match='tar archive'):
        load_official_file(str(path))


@FORMATS
@pytest.mark.parametrize('share', [0., 0.01, 0.5, 0.95])
def test_a_truncated_file(tmp_path, zipped, share):
    path = tmp_path / 'cut.pth'
    save(dict(model=nn.Linear(64, 64).state_dict()), path, zipped)
    data = path.read_bytes()
    path.write_bytes(data[:int(share * len(data))])
    with pytest.raises(ValueError, match='truncated, damaged') as info:
        load_official_file(str(path))
    assert str(path) in str(info.value)
    assert f'({path.stat().st_size} bytes' in str(info.value)


def test_a_page_in_place_of_a_file(tmp_path):
    path = tmp_path / 'page.pth'
    path.write_text('<html>Not found</html>')
    with pytest.raises(ValueError, match='not a PyTorch checkpoint'):
        load_official_file(str(path))
    with pytest.raises(FileNotFoundError, match='nowhere.pth.*SRC'):
        load_official_file(str(tmp_path / 'nowhere.pth'))
    with pytest.raises(ValueError, match='damaged'):
        path.write_bytes(pickle.dumps(3))
        load_official_file(str(path))
