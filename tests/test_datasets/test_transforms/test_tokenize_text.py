import pytest
import torch

from transmamba_mm.datasets import TokenizeText


def tokenize(caption, **kwargs):
    return TokenizeText(**kwargs).transform(dict(caption=caption))


def test_words():
    cfg = dict(tokenizer=dict(type='words', vocab_size=5000), max_length=8)
    one = tokenize("A dog's bone, moving LEFT", **cfg)
    ids, mask = one['text']['input_ids'], one['text']['attention_mask']
    assert mask.tolist() == [1] * 8 and one['caption_cut'] is False
    assert ids[0] == 4998 and ids[-1] == 4999
    two = tokenize('left moving', **cfg)['text']
    # the same words, in their order
    assert two['input_ids'].tolist() == [4998, ids[6], ids[5], 4999] + [0] * 4
    assert two['attention_mask'].sum() == 4


@pytest.mark.parametrize('kind', ['words', 'open_clip'])
def test_long_captions_keep_their_end(kind):
    cfg = dict(tokenizer=dict(type=kind), max_length=6)
    short = tokenize('a b c d', **cfg)
    assert not short['caption_cut']
    long = tokenize('a b c d e f g', **cfg)
    assert long['caption_cut']
    assert torch.equal(long['text']['input_ids'], short['text']['input_ids'])
    assert long['text']['attention_mask'].all()


def test_open_clip_agrees_with_open_clip():
    open_clip = pytest.importorskip('open_clip')
    caption = 'Two dogs!! moving   to the left &amp; back, "slowly"'
    text = tokenize(caption, max_length=32)['text']
    wanted = open_clip.get_tokenizer('ViT-B-32', context_length=32)([caption])
    assert torch.equal(text['input_ids'], wanted[0])
    # '!' is token 0 of CLIP, and no padding
    last = int(wanted[0].argmax())
    assert text['attention_mask'].sum() == last + 1


def test_hugging_face_folder(tmp_path):
    transformers = pytest.importorskip('transformers')
    words = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'a', 'dog']
    (tmp_path / 'vocab.txt').write_text('\n'.join(words))
    transformers.BertTokenizer(str(tmp_path / 'vocab.txt')).save_pretrained(
        tmp_path / 'tokenizer')
    cfg = dict(type='huggingface', name=str(tmp_path / 'tokenizer'))
    text = tokenize('a dog', tokenizer=cfg, max_length=6)['text']
    assert text['input_ids'].tolist() == [2, 5, 6, 3, 0, 0]
    assert text['attention_mask'].tolist() == [1, 1, 1, 1, 0, 0]


def test_errors():
    with pytest.raises(ValueError, match='max_length'):
        tokenize('a', max_length=2)
    with pytest.raises(ValueError, match="'words'"):
        tokenize('a', tokenizer=dict(type='x'))
    with pytest.raises(ValueError, match='vocab_size'):
        tokenize('a', tokenizer=dict(type='words', vocab_size=3))
    with pytest.raises(FileNotFoundError, match='allow_download'):
        tokenize('a', tokenizer=dict(type='huggingface', name='no/folder'))
