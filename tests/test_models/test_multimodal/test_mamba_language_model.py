"""Mamba language models on our scan: equal outputs, and a state to go on."""
import copy

import pytest
import torch
from transformers import MambaForCausalLM
from transformers.models.mamba2 import modeling_mamba2

from transmamba_mm.models.multimodal.language_models import (
    build_language_model, merge_lora)
from transmamba_mm.models.multimodal.mamba_language_model import route_scan
from .toy_language import CONFIGS, VOCABULARY, make_mamba

KINDS = ('mamba', 'mamba2')


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def model(kind):
    return route_scan(make_mamba(kind))


def draw_ids(batch=3, length=19, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(4, VOCABULARY, (batch, length), generator=generator)


def padded(ids):
    """The same texts cut to several lengths, padded on the left."""
    mask = torch.ones_like(ids)
    for row, skip in enumerate((0, 7, ids.shape[1] - 1)):
        mask[row, :skip] = 0
    return ids * mask, mask


def generate(model, ids=None, **kwargs):
    torch.manual_seed(0)
    return model.generate(
        ids, max_new_tokens=10, min_new_tokens=10, pad_token_id=0, **kwargs)


def test_outputs_equal_the_librarys(kind):
    library = make_mamba(kind)
    ours = route_scan(copy.deepcopy(library))
    assert set(ours.state_dict()) == set(library.state_dict())
    ids = draw_ids()
    with torch.no_grad():
        expected = library(ids, use_cache=False, output_hidden_states=True)
        found = ours(ids, output_hidden_states=True)
    torch.testing.assert_close(
        found.logits, expected.logits, rtol=0, atol=1e-5)
    assert len(found.hidden_states) == len(expected.hidden_states)
    for a, b in zip(found.hidden_states, expected.hidden_states):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_gradients_equal_the_librarys(kind):
    library = make_mamba(kind)
    ours = route_scan(copy.deepcopy(library))
    ids = draw_ids()
    for model in (library, ours):
        model(ids, labels=ids, use_cache=False).loss.backward()
    for (name, a), b in zip(library.named_parameters(), ours.parameters()):
        torch.testing.assert_close(
            b.grad, a.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_library_goes_on_the_same_way(kind):
    """Its own cached greedy decoding, one prompt without padding."""
    library, ids = make_mamba(kind), draw_ids(batch=1)
    ours = route_scan(copy.deepcopy(library))
    assert torch.equal(generate(ours, ids), generate(library, ids))


@pytest.mark.parametrize('limit', [(0.01, 0.1), (0., float('inf'))])
def test_mamba2_groups_and_step_limits(limit):
    """Several groups: one scan equals the library's single steps."""
    if not hasattr(modeling_mamba2, 'Mamba2Cache'):
        pytest.skip('written for the cache of Transformers 4')
    library = make_mamba('mamba2', n_groups=2, time_step_limit=limit)
    ours, ids = route_scan(copy.deepcopy(library)), draw_ids(batch=2)
    with torch.no_grad():
        whole = ours(ids).logits[:, -1]
        state = modeling_mamba2.Mamba2Cache(library.config, 2, torch.float32)
        for t in range(ids.shape[1]):
            out = library(
                ids[:, t:t + 1],
                cache_params=state,
                use_cache=True,
                cache_position=torch.tensor([t + 1]))
    torch.testing.assert_close(whole, out.logits[:, -1], rtol=0, atol=1e-5)


@pytest.mark.parametrize('options', [
    dict(),
    dict(do_sample=True),
    dict(num_beams=4),
    dict(num_beams=3, do_sample=True)
])
def test_cached_equals_uncached(model, options):
    ids, mask = padded(draw_ids())
    cached = generate(model, ids, attention_mask=mask, **options)
    again = generate(
        model, ids, attention_mask=mask, use_cache=False, **options)
    assert torch.equal(cached, again)


def test_beams_need_the_state_reordered(model, monkeypatch):
    """Guards the test above: without it, the beams go wrong."""
    from transmamba_mm.models.multimodal.recurrent_state import RecurrentState
    ids = draw_ids()
    right = generate(model, ids, num_beams=4)
    monkeypatch.setattr(RecurrentState, 'reorder_cache',
                        lambda self, index: self)
    assert not torch.equal(generate(model, ids, num_beams=4), right)


@pytest.mark.parametrize('options', [dict(), dict(num_beams=3)])
def test_left_padding_changes_nothing(model, options):
    ids, mask = padded(draw_ids())
    together = generate(model, ids, attention_mask=mask, **options)
    for i, (row, real) in enumerate(zip(ids, mask)):
        alone = generate(model, row[real.bool()][None], **options)
        assert torch.equal(together[i, -10:], alone[0, -10:])


def test_padding_moves_no_state(model):
    ids, mask = padded(draw_ids())
    with torch.no_grad():
        batch = model(ids, mask, use_cache=True).past_key_values
        alone = model(ids[1:2, 7:], use_cache=True).past_key_values
    for states in ('convs', 'ssms'):
        for a, b in zip(getattr(batch, states), getattr(alone, states)):
            torch.testing.assert_close(a[1], b[0], rtol=0, atol=1e-6)


def test_right_padding_is_refused_where_a_state_is_kept(model):
    ids, mask = padded(draw_ids())
    with pytest.raises(ValueError, match='pad on the left'):
        model(ids, mask.flip(1), use_cache=True)
    model(ids, mask.flip(1))  # fine in training


@pytest.mark.parametrize('chunk', [1, 2, 5, 64])
def test_chunked_prefill_equals_one(kind, model, chunk):
    ids, mask = padded(draw_ids())
    pieces = route_scan(make_mamba(kind), prefill_chunk=chunk)
    with torch.no_grad():
        a = model(ids, mask, use_cache=True)
        b = pieces(ids, mask, use_cache=True)
    torch.testing.assert_close(
        b.logits[mask.bool()], a.logits[mask.bool()], rtol=0, atol=1e-5)
    for x, y in zip(a.past_key_values.ssms, b.past_key_values.ssms):
        torch.testing.assert_close(y, x, rtol=0, atol=1e-5)
    assert b.past_key_values.num_seen == ids.shape[1]


def test_embeddings_can_be_the_prompt(model):
    ids, mask = padded(draw_ids())
    embeds = model.get_input_embeddings()(ids)
    for options in (dict(), dict(num_beams=3), dict(use_cache=False)):
        a = generate(model, ids, attention_mask=mask, **options)
        b = generate(
            model, inputs_embeds=embeds, attention_mask=mask, **options)
        assert torch.equal(a[:, ids.shape[1]:], b)


def test_memory_does_not_grow_with_the_text(model):
    with torch.no_grad():
        out = model(draw_ids(1, 4), use_cache=True).past_key_values
        before = out.num_bytes
        model(draw_ids(1, 300), use_cache=True, past_key_values=out)
        for _ in range(3):
            model(draw_ids(1, 1), use_cache=True, past_key_values=out)
    assert out.num_bytes == before and out.num_seen == 307
    for state in out.convs + out.ssms:  # no view of something larger
        assert state.untyped_storage().nbytes() == \
            state.numel() * state.element_size()


def test_gradient_checkpointing_gives_the_same_gradients(kind, monkeypatch):
    from transmamba_mm.models.multimodal import mamba_language_model
    calls, run = [], mamba_language_model.checkpoint
    monkeypatch.setattr(mamba_language_model, 'checkpoint',
                        lambda *a, **k: calls.append(1) or run(*a, **k))
    grads = []
    for on in (False, True):
        torch.manual_seed(0)
        model = build_language_model(
            dict(model_type=kind, **CONFIGS[kind]), gradient_checkpointing=on)
        ids = draw_ids()
        model(ids, labels=ids).loss.backward()
        grads.append([p.grad for p in model.parameters()])
    assert len(calls) == 2
    for a, b in zip(*grads):
        torch.testing.assert_close(a, b)


def test_embeddings_stay_tied(tmp_path):
    model = build_language_model(dict(model_type='mamba', **CONFIGS['mamba']))
    assert model.lm_head.weight is model.backbone.embeddings.weight
    model.save_pretrained(tmp_path)
    loaded = build_language_model(pretrained=str(tmp_path))
    assert loaded.lm_head.weight is loaded.backbone.embeddings.weight
    ids = draw_ids()
    assert torch.equal(loaded(ids).logits, model(ids).logits)
    assert type(MambaForCausalLM.from_pretrained(tmp_path)) is MambaForCausalLM


def test_folder_of_the_library_is_read(kind, tmp_path):
    library, ids = make_mamba(kind), draw_ids()
    library.save_pretrained(tmp_path)
    ours = build_language_model(pretrained=str(tmp_path), prefill_chunk=8)
    torch.testing.assert_close(
        ours(ids).logits,
        library(ids, use_cache=False).logits,
        rtol=0,
        atol=1e-5)
    assert ours.backbone.prefill_chunk == 8


@pytest.mark.parametrize('options, message', [
    (dict(), 'give one of them'),
    (dict(config=dict(model_type='mambo')), "model_type='mambo' is unknown"),
    (dict(config=dict(model_type='mamba', hidden=3)), r"has \['hidden'\]"),
    (dict(
        config=dict(model_type='mamba', hidden_act='relu', **
                    CONFIGS['mamba'])), "give 'silu'"),
    (dict(
        config=dict(model_type='mamba', **CONFIGS['mamba']),
        prefill_chunk=-1), 'give 0 or more'),
    (dict(
        config=dict(model_type='llama', **CONFIGS['llama']),
        prefill_chunk=4), 'reads prompts whole'),
])
def test_bad_arguments_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        build_language_model(**options)


def test_missing_folder_is_explained():
    with pytest.raises(FileNotFoundError, match='model.language_model'):
        build_language_model(pretrained='./no/such/folder')


def test_lora_trains_adapters_only(kind):
    pytest.importorskip('peft')
    config = dict(model_type=kind, **CONFIGS[kind])
    model = build_language_model(config, lora=dict(r=2))
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    assert len(trained) == 4 and all('lora_' in n for n in trained)
    ids = draw_ids()
    with torch.no_grad():
        for name in trained:
            model.get_parameter(name).normal_(std=0.3)
        expected = model(ids).logits
        names = set(build_language_model(config).state_dict())
        assert set(merge_lora(model).state_dict()) == names
        torch.testing.assert_close(
            model(ids).logits, expected, rtol=1e-4, atol=1e-5)


def test_lora_on_the_step_size_is_not_skipped():
    pytest.importorskip('peft')
    model = build_language_model(
        dict(model_type='mamba', **CONFIGS['mamba']),
        lora=dict(r=2, target_modules=['dt_proj', 'x_proj']))
    ids = draw_ids()
    model(ids, labels=ids).loss.backward()
    grads = {n: p.grad for n, p in model.named_parameters() if 'lora_B' in n}
    assert len(grads) == 4 and all(g.abs().sum() > 0 for g in grads.values())


def test_half_precision(kind, model):
    """Mixed precision trains; weights in bfloat16 generate."""
    ids = draw_ids()
    exact = model(ids, labels=ids).loss
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = model(ids, labels=ids).loss
    loss.backward()
    torch.testing.assert_close(loss, exact, rtol=0.05, atol=0.)
    assert all(p.grad is not None for p in model.parameters())
    half = route_scan(make_mamba(kind)).bfloat16()
    out = half(ids, use_cache=True).past_key_values
    assert out.ssms[0].dtype == torch.float32
    assert generate(half, ids, num_beams=2).shape == (3, 29)
