"""Small networks of the Transformers library, written as it writes them."""
import json

import torch
import transformers as hf

VISION = dict(
    hidden_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=64,
    image_size=16,
    patch_size=4)
TEXT = dict(
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    vocab_size=60,
    max_position_embeddings=16,
    bos_token_id=0,
    eos_token_id=59,
    pad_token_id=1)
LLAMA = {**TEXT, 'num_key_value_heads': 2, 'num_hidden_layers': 3}


def clip():
    return hf.CLIPModel(hf.CLIPConfig(text_config=TEXT, vision_config=VISION))


def llava():
    return hf.LlavaForConditionalGeneration(
        hf.LlavaConfig(
            vision_config=hf.CLIPVisionConfig(**VISION),
            text_config=hf.LlamaConfig(**LLAMA),
            image_token_index=58))


def siglip():
    text = {k: v for k, v in TEXT.items() if 'id' not in k}
    return hf.SiglipModel(
        hf.SiglipConfig(text_config=text, vision_config=VISION))


#: Name to maker, and tower asked for.
MODELS = {
    'vit': (lambda: hf.ViTForImageClassification(
        hf.ViTConfig(**VISION, num_labels=4)), None),
    'vit without a head': (lambda: hf.ViTModel(hf.ViTConfig(**VISION)), None),
    'deit': (lambda: hf.DeiTForImageClassificationWithTeacher(
        hf.DeiTConfig(**VISION, num_labels=4)), None),
    'dinov2':
    (lambda: hf.Dinov2Model(hf.Dinov2Config(**VISION, mlp_ratio=2)), None),
    'clip vision': (clip, 'vision'),
    'clip vision alone':
    (lambda: hf.CLIPVisionModel(hf.CLIPVisionConfig(**VISION)), None),
    'siglip vision': (siglip, 'vision'),
    'clip text': (clip, 'text'),
    'llama': (lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**LLAMA)), None),
    'llava language': (llava, 'text'),
    'llava vision': (llava, 'vision'),
    'bert': (lambda: hf.BertModel(hf.BertConfig(**TEXT)), None),
}
IMAGES = [
    k for k in MODELS
    if MODELS[k][1] != 'text' and k not in ('llama', 'llava language', 'bert')
]
TEXTS = [k for k in MODELS if k not in IMAGES]


def save(kind, folder, dtype=None):
    """Write a network, and return it as the library runs the tower."""
    make, tower = MODELS[kind]
    torch.manual_seed(0)
    model = make().eval().to(dtype)
    for p in model.parameters():  # zeros and ones would hide an error
        if p.dim() == 1:
            p.data.add_(torch.randn_like(p) * 0.1)
    model.save_pretrained(folder)
    write_processor(folder)
    if kind.startswith('clip') and tower:
        cls = getattr(hf, f'CLIP{tower.capitalize()}ModelWithProjection')
        return cls.from_pretrained(folder).eval()
    if kind == 'siglip vision':
        return hf.SiglipVisionModel.from_pretrained(folder).eval()
    if not kind.startswith('llava'):
        return model
    inner = model if hasattr(model, 'vision_tower') else model.model
    return getattr(inner,
                   'language_model' if tower == 'text' else 'vision_tower')


def write_processor(folder, **content):
    content = content or dict(
        image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.3, 0.4])
    with open(f'{folder}/preprocessor_config.json', 'w') as file:
        json.dump(
            dict(image_processor_type='ViTImageProcessor', **content), file)


def text():
    """Return two texts, the second one padded."""
    ids = torch.randint(2, 58, (2, 9), generator=torch.Generator())
    ids[0, 8] = ids[1, 5] = 59
    ids[1, 6:] = 1
    mask = (torch.arange(9) < torch.tensor([[9], [6]])).long()
    return dict(input_ids=ids, attention_mask=mask)
