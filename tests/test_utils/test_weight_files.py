"""Files of weights: which kinds are read, how little of them, what is not."""
import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from transmamba_mm.utils.weight_files import open_weights

STATE = dict(
    a=torch.arange(6.).reshape(2, 3),
    b=torch.ones(4, dtype=torch.bfloat16),
    c=torch.zeros((), dtype=torch.int64))


def write_shards(folder, suffix='safetensors'):
    """Write two shards and their index."""
    save = save_file if suffix == 'safetensors' else torch.save
    stem = 'model' if suffix == 'safetensors' else 'pytorch_model'
    names = [f'{stem}-0000{i}-of-00002.{suffix}' for i in (1, 2)]
    save(dict(a=STATE['a']), folder / names[0])
    save(dict(b=STATE['b'], c=STATE['c']), folder / names[1])
    index = folder / f'{stem}.{suffix}.index.json'
    index.write_text(
        json.dumps(dict(weight_map=dict(a=names[0], b=names[1], c=names[1]))))
    return index, names


def check(source):
    weights = open_weights(source)
    assert set(weights) == set(STATE) and len(weights) == 3
    for name, tensor in STATE.items():
        assert weights.shape(name) == tuple(tensor.shape)
        assert torch.equal(weights[name], tensor)
        assert weights[name].dtype == tensor.dtype
    assert [weights.dtype(n) for n in 'abc'] == ['F32', 'BF16', 'I64']
    assert 'd' not in weights
    with pytest.raises(KeyError):
        weights['d']
    return weights


@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize('wrap', [None, 'state_dict', 'model'])
def test_file_of_pytorch(tmp_path, wrap, legacy):
    content = STATE if wrap is None else {wrap: STATE, 'epoch': 3}
    torch.save(
        content,
        tmp_path / 'any.pth',
        _use_new_zipfile_serialization=not legacy)
    check(tmp_path / 'any.pth')
    # the only file of a folder
    check(str(tmp_path))


def test_file_of_safetensors(tmp_path):
    save_file(STATE, tmp_path / 'model.safetensors')
    check(tmp_path / 'model.safetensors')
    check(tmp_path)
    os.rename(tmp_path / 'model.safetensors', tmp_path / 'odd.pth')
    # the content counts, not the name
    check(tmp_path / 'odd.pth')


def test_dict_and_itself():
    check(check(STATE))


@pytest.mark.parametrize('suffix', ['safetensors', 'bin'])
def test_shards(tmp_path, suffix):
    index, names = write_shards(tmp_path, suffix)
    check(index)
    (tmp_path / 'config.json').write_text('{"hidden_act": "gelu"}')
    assert check(tmp_path).configs['config.json'] == dict(hidden_act='gelu')
    # a shard is opened only when it is asked
    (tmp_path / names[0]).write_bytes(b'damaged')
    weights = open_weights(tmp_path)
    assert torch.equal(weights['b'], STATE['b'])
    with pytest.raises(ValueError, match=f'{names[0]}.*damaged'):
        weights['a']
    (tmp_path / names[0]).unlink()
    with pytest.raises(FileNotFoundError, match=f"shard '{names[0]}'"):
        open_weights(tmp_path)


@pytest.mark.parametrize('name', [
    '../secret.safetensors', '/etc/passwd', '..', 'sub/m.safetensors',
    '..\\secret.safetensors', '', 3
])
def test_index_cannot_leave_its_folder(tmp_path, name):
    folder = tmp_path / 'folder'
    (folder / 'sub').mkdir(parents=True)
    save_file(STATE, tmp_path / 'secret.safetensors')
    save_file(STATE, folder / 'sub' / 'm.safetensors')
    (folder / 'model.safetensors.index.json').write_text(
        json.dumps(dict(weight_map=dict(a=name))))
    with pytest.raises(ValueError, match='no file of its own folder'):
        open_weights(folder)


def test_wrong_index(tmp_path):
    index, names = write_shards(tmp_path)
    content = json.loads(index.read_text())
    content['weight_map']['d'] = names[0]
    index.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"'d' is in '{names[0]}'"):
        open_weights(index)['d']
    index.write_text('{"weight_map": ')
    with pytest.raises(ValueError, match='truncated or no JSON'):
        open_weights(index)
    index.write_text('{"metadata": {}}')
    with pytest.raises(ValueError, match="needs a dict 'weight_map'"):
        open_weights(index)


def test_folder_without_a_clear_file(tmp_path):
    with pytest.raises(FileNotFoundError, match='holds no weights'):
        open_weights(tmp_path)
    torch.save(STATE, tmp_path / 'epoch_1.pth')
    torch.save(STATE, tmp_path / 'epoch_2.pth')
    with pytest.raises(ValueError, match='epoch_1.*epoch_2.*name one'):
        open_weights(tmp_path)
    save_file(STATE, tmp_path / 'model.safetensors')
    check(tmp_path)


def test_files_that_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere'):
        open_weights(tmp_path / 'nowhere.safetensors')
    with pytest.raises(FileNotFoundError, match='someone/vit.*hub.*folder'):
        open_weights('someone/vit')
    path = tmp_path / 'code.pth'
    torch.save(dict(a=os.system), path)
    with pytest.raises(ValueError, match='would run code'):
        open_weights(path)
    torch.jit.script(torch.nn.Linear(2, 2)).save(path)
    with pytest.raises(ValueError, match='code.pth.*TorchScript.*torch.save'):
        open_weights(path)
    for name in ('llm.gguf', 'llm.pth'):
        (tmp_path / name).write_bytes(b'GGUF' + bytes(20))
        with pytest.raises(ValueError, match='quantised for llama.cpp'):
            open_weights(tmp_path / name)
    save_file(STATE, tmp_path / 'short.safetensors')
    content = (tmp_path / 'short.safetensors').read_bytes()
    (tmp_path / 'short.safetensors').write_bytes(content[:-8])
    with pytest.raises(ValueError, match='short.safetensors.*truncated'):
        open_weights(tmp_path / 'short.safetensors')
    (tmp_path / 'empty.safetensors').write_bytes(b'')
    with pytest.raises(ValueError, match='empty.safetensors.*truncated'):
        open_weights(tmp_path / 'empty.safetensors')


MEASURE = '''
import sys
import transmamba_mm  # noqa: F401
from transmamba_mm.utils.weight_files import open_weights

def peak():
    with open('/proc/self/status') as file:
        lines = dict(line.split(':', 1) for line in file if ':' in line)
    return int(lines['VmHWM'].split()[0])

start = peak()
weights = open_weights(sys.argv[1])
weights.shape('big')
total = weights['small'].sum().item()
print(total, (peak() - start) / 1024)
'''


@pytest.mark.skipif(
    not os.path.exists('/proc/self/status'), reason='needs Linux')
@pytest.mark.parametrize('name', ['model.safetensors', 'model.pth'])
def test_unused_tensors_take_no_memory(tmp_path, name):
    """Of a file of 128 MB a tensor of 4 MB is read."""
    state = dict(big=torch.ones(31, 1 << 20), small=torch.ones(1 << 20))
    save = torch.save if name.endswith('pth') else save_file
    save(state, tmp_path / name)
    out = subprocess.run([sys.executable, '-c', MEASURE,
                          str(tmp_path / name)],
                         capture_output=True,
                         text=True,
                         check=True)
    total, megabytes = map(float, out.stdout.split()[-2:])
    assert total == 1 << 20
    assert megabytes < 40
