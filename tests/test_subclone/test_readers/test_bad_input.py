"""What cannot be read is refused, what is left out is said."""
import json
import logging

import pytest
import torch
from mmengine.logging import MMLogger

from transmamba_mm.subclone import read_teacher
from . import vits
from .test_language import llama

transformers = vits.transformers


@pytest.fixture
def log(caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    with caplog.at_level(logging.INFO, logger.name):
        yield caplog
    logger.removeHandler(caplog.handler)


def vit():
    return vits.to_timm(vits.mmpretrain_vit().state_dict())


@pytest.mark.parametrize('name, near', [
    ('encoder.blocks.0.attn.qkv.weight', 'timm'),
    ('roberta.encoder.layer.0.attention.self.query.weight', 'BERT'),
    ('model.layers.0.self_attn.qkv_proj.weight', 'LLaMA'),
    ('conv1.weight', ''),
])
def test_unknown_layout_names_the_nearest(name, near):
    with pytest.raises(
            ValueError, match=f"no known layout.*{name}.*nearest is {near}"):
        read_teacher({name: torch.zeros(1)})
    with pytest.raises(ValueError, match='found 0 tensors'):
        read_teacher({})


@pytest.mark.parametrize('lost', [
    'blocks.1.mlp.fc2.weight', 'blocks.0.norm1.bias',
    'blocks.0.attn.proj.weight'
])
def test_missing_tensor_of_a_block(lost):
    state = vit()
    del state[lost]
    with pytest.raises(ValueError, match='2 blocks.*; 1 in all'):
        read_teacher(state)


def test_missing_block_and_missing_mlp():
    state = vit()
    far = {k.replace('blocks.1.', 'blocks.3.'): v for k, v in state.items()}
    with pytest.raises(ValueError, match='4 blocks.*all of layers.1'):
        read_teacher(far)
    without = {k: v for k, v in state.items() if '.mlp.' not in k}
    with pytest.raises(ValueError, match='layers.0.fc1.weight'):
        read_teacher(without)


def test_block_of_an_absurd_number():
    state = vit()
    state['blocks.99999999999.norm1.weight'] = torch.ones(32)
    with pytest.raises(ValueError, match='all of layers.2'):
        read_teacher(state)


def test_surplus_tensors_are_logged(log):
    read_teacher(vit())
    assert 'left out' not in log.text
    state = vit()
    state['blocks.0.attn.q_norm.weight'] = torch.ones(16)
    state['extra'] = torch.ones(1)
    source = read_teacher(state)
    assert "2 tensors of the timm teacher are left out" in log.text
    assert 'q_norm' in log.text and len(source) == len(vit()) + 8


@pytest.mark.parametrize('key, method', [
    ('model.layers.0.self_attn.q_proj.SCB', 'bitsandbytes'),
    ('model.layers.0.mlp.up_proj.weight.quant_state.bitsandbytes__nf4',
     'bitsandbytes'),
    ('model.layers.0.self_attn.q_proj.qweight', 'GPTQ or AWQ'),
    ('model.layers.0.self_attn.q_proj.weight_packed', 'compressed-tensors'),
    ('model.layers.0.self_attn.q_proj.weight_scale_inv', 'FP8'),
])
def test_quantised_files_are_refused(key, method):
    state = dict(llama().state_dict())
    state[key] = torch.zeros(4)
    with pytest.raises(ValueError, match=f'quantised \\({method}.*float'):
        read_teacher(state)


def test_quantised_by_type_or_config(tmp_path):
    model = llama()
    state = dict(model.state_dict())
    key = 'model.layers.1.mlp.up_proj.weight'
    for dtype in (torch.int8, torch.float8_e4m3fn):
        state[key] = state[key].to(dtype)
        with pytest.raises(ValueError, match=f'quantised.*{key}'):
            read_teacher(state)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / 'config.json').read_text())
    config['quantization_config'] = dict(quant_method='awq')
    (tmp_path / 'config.json').write_text(json.dumps(config))
    with pytest.raises(ValueError, match='quantised \\(awq'):
        read_teacher(tmp_path)


def test_adapter_is_refused():
    state = vit()
    state['blocks.0.attn.qkv.lora_A.weight'] = torch.zeros(2, 32)
    with pytest.raises(ValueError, match='LoRA.*merge'):
        read_teacher(state)


def test_nan_is_refused_where_it_is_used():
    state = vit()
    state['blocks.1.mlp.fc1.weight'][0, 0] = float('inf')
    source = read_teacher(state)
    source.hint = 'Change that.'
    assert source['layers.0.fc1.weight'].isfinite().all()
    with pytest.raises(ValueError, match="blocks.1.mlp.fc1.*Change that"):
        source['layers.1.fc1.weight']


def test_tensors_that_are_not_used_are_not_read():
    """A mapping that counts stands for a file."""

    class Counting(dict):
        read = []

        def __getitem__(self, key):
            self.read.append(key)
            return super().__getitem__(key)

    from transmamba_mm.subclone.teacher_state import TeacherState
    from transmamba_mm.utils.weight_files import Part, WeightFile
    state = Counting(vit())

    class Counted(Part):

        def names(self):
            return list(state)

        def tensor(self, name):
            return state[name]

        def shape(self, name):
            return tuple(dict.__getitem__(state, name).shape)

        def dtype(self, name):
            return 'F32'

    source = read_teacher(WeightFile('', dict.fromkeys(state, Counted())))
    assert isinstance(source, TeacherState) and state.read == []
    assert source.shape('layers.0.q.weight') == (32, 32)
    assert state.read == []
    source['layers.0.q.weight']
    assert state.read == ['blocks.0.attn.qkv.weight']


def test_text_model_of_another_kind():
    model = transformers.GPT2Model(
        transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=50))
    with pytest.raises(ValueError, match='no known layout'):
        read_teacher(model.state_dict())
