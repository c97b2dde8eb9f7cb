"""Datasets of questions about images, and their transforms."""
import json

import cv2
import numpy as np
import pytest
from mmpretrain.registry import DATASETS, TRANSFORMS

from transmamba_mm.datasets import (DaquarDataset, EasyVQADataset,
                                    LlavaInstructDataset)
from transmamba_mm.datasets.vqa import build_word_tokenizer
from ..vqa_toy import TEXTS, TURNS, write_easy_vqa, write_images


@pytest.fixture
def easy_root(tmp_path):
    write_easy_vqa(tmp_path)
    return str(tmp_path)


@pytest.fixture
def tokenizer(tmp_path):
    folder = str(tmp_path / 'tokenizer')
    build_word_tokenizer(
        TEXTS + ['what is the shape? circle red yes no A. B. Context'], folder)
    return folder


def write_llava(root, rows):
    write_images(root / 'images')
    path = root / 'data.json'
    path.write_text(json.dumps(rows))
    return dict(
        data_root=str(root),
        ann_file='data.json',
        data_prefix=dict(img_path='images'))


def test_easy_vqa(easy_root):
    dataset = EasyVQADataset('test', easy_root)
    assert len(dataset) == 4
    types = [dataset[i]['answer_type'] for i in range(4)]
    assert types == ['shape', 'color', 'yes/no', 'yes/no']
    assert dataset[3]['img_path'].endswith('test/images/2.png')
    assert (dataset[3]['question'],
            dataset[3]['gt_answer']) == ('is there a red shape?', 'no')
    assert dataset.metainfo['answer_types'] == ('yes/no', 'shape', 'color')


def test_easy_vqa_holds_images_out(easy_root):
    kept = [{
        info['image_id']
        for info in EasyVQADataset(split, easy_root, val_images=1)
    } for split in ('train', 'val', 'test')]
    assert kept == [{0, 1}, {2}, {0, 1, 2}]


def test_fraction_is_by_image_and_nested(easy_root):
    kept = [{
        info['image_id']
        for info in EasyVQADataset('train', easy_root, fraction=f, seed=3)
    } for f in (0.34, 0.67, 1.)]
    assert [len(images) for images in kept] == [1, 2, 3]
    assert kept[0] < kept[1] < kept[2]
    other = {
        info['image_id']
        for seed in range(5)
        for info in EasyVQADataset(
            'train', easy_root, fraction=0.34, seed=seed)
    }
    assert len(other) > 1
    images = [
        info['image_id']
        for info in EasyVQADataset('train', easy_root, fraction=0.67)
    ]
    if 0 in images:  # both questions of an image stay together
        assert images.count(0) == 2


def test_missing_images(easy_root, caplog):
    import os
    os.remove(f'{easy_root}/train/images/1.png')
    with pytest.raises(FileNotFoundError, match='1.png.*train_dataloader'):
        EasyVQADataset('train', easy_root)
    dataset = EasyVQADataset('train', easy_root, on_missing='skip')
    assert len(dataset) == 3
    assert [p.endswith('1.png') for p in dataset.missing_images] == [True]
    with pytest.raises(FileNotFoundError, match='questions.json'):
        EasyVQADataset('train', f'{easy_root}/none')


@pytest.mark.parametrize('kwargs, message', [
    (dict(split='all'), "'train', 'val', 'test'"),
    (dict(split='val'), 'val_images'),
    (dict(fraction=0), 'fraction'),
    (dict(on_missing='ignore'), 'on_missing'),
])
def test_wrong_arguments(easy_root, kwargs, message):
    with pytest.raises(ValueError, match=message):
        EasyVQADataset(data_root=easy_root, **kwargs)


def test_daquar(tmp_path):
    write_images(tmp_path / 'images')
    rows = [
        dict(image='0.png', question='what is it ', answer='soft_toy'),
        dict(image='1.png', question='how many', answer='2'),
        dict(image='2.png', question='which', answer='cup, soft_toy'),
        dict(image='2.png', question='what color', answer='red'),
    ]
    (tmp_path / 'val.json').write_text(json.dumps(rows))
    space = tmp_path / 'answer_space.txt'
    space.write_text('soft_toy\n2\ncup\nred\n')
    dataset = DaquarDataset('val', str(tmp_path))
    assert [info['answer_type']
            for info in dataset] == ['object', 'number', 'list', 'color']
    assert dataset[0]['question'] == 'what is it'
    single = DaquarDataset('val', str(tmp_path), single_answers=True)
    assert len(single) == 3
    space.write_text('soft_toy\n2\n')
    with pytest.raises(ValueError, match="'cup, soft_toy' of entry 2"):
        DaquarDataset('val', str(tmp_path))


def test_llava_instruct(tmp_path, tokenizer):
    rows = [
        dict(id='a', image='0.png', conversations=TURNS),
        dict(id='b', conversations=TURNS[2:]),
    ]
    cfg = write_llava(tmp_path, rows)
    pipeline = [
        dict(type='transmamba_mm.LoadImage'),
        dict(type='transmamba_mm.PadToSquare'),
        dict(type='Resize', scale=(6, 6)),
        dict(type='transmamba_mm.TokenizeConversation', tokenizer=tokenizer),
        dict(type='transmamba_mm.PackConversation')
    ]
    pipeline = [TRANSFORMS.build(step) for step in pipeline]
    assert len(LlavaInstructDataset(**cfg)) == 1
    dataset = LlavaInstructDataset(
        text_only='keep', blank_size=5, pipeline=pipeline, **cfg)
    image, text = dataset[0], dataset[1]
    assert image['inputs'].shape == text['inputs'].shape == (3, 6, 6)
    sample = image['data_samples']
    assert (sample.sample_id, sample.question) == ('a', 'Is it big?')
    assert (sample.input_ids == -200).sum() == 1
    assert sample.labels.shape == sample.input_ids.shape
    assert (text['data_samples'].input_ids >= 0).all()
    assert text['inputs'].sum() == 0 and not text['data_samples'].has_image
    lines = '\n'.join(json.dumps(row) for row in rows)
    (tmp_path / 'data.jsonl').write_text(lines)
    cfg['ann_file'] = 'data.jsonl'
    assert len(LlavaInstructDataset(text_only='keep', **cfg)) == 2


def test_llava_cot_tags(tmp_path):
    answer = '<SUMMARY> s </SUMMARY>\n\n<CONCLUSION> c </CONCLUSION>'
    turns = [TURNS[0], {'from': 'gpt', 'value': answer}]
    cfg = write_llava(tmp_path, [dict(image='0.png', conversations=turns)])
    cfg['tags'] = ('SUMMARY', 'CONCLUSION')
    info = LlavaInstructDataset(**cfg).get_data_info(0)
    assert info['conversations'][1] == ('gpt', answer)
    cfg['tags'] = ('SUMMARY', 'REASONING')
    with pytest.raises(ValueError, match='entry 0.*<REASONING>'):
        LlavaInstructDataset(**cfg)


def test_llava_image_that_the_text_does_not_mention(tmp_path):
    turns = [{'from': 'gpt', 'value': 'Hello'}, *TURNS[2:]]
    rows = [dict(image='0.png', conversations=t) for t in (turns, TURNS)]
    cfg = write_llava(tmp_path, rows)
    with pytest.raises(ValueError, match="entry 0.*0 '<image>'"):
        LlavaInstructDataset(**cfg)
    dataset = LlavaInstructDataset(insert_image=True, **cfg)
    first = [dataset[i]['conversations'][0] for i in range(2)]
    assert first == [('human', '<image>\nIs it big?'),
                     ('human', '<image>\nWhat is\nthis?')]


def test_llava_errors(tmp_path):
    cfg = write_llava(tmp_path, [dict(image='0.png', text='a')])
    with pytest.raises(ValueError, match='entry 0.*conversations'):
        LlavaInstructDataset(**cfg)
    cfg = write_llava(tmp_path, [dict(image='9.png', conversations=TURNS)])
    with pytest.raises(FileNotFoundError, match='9.png'):
        LlavaInstructDataset(**cfg)


def tokenize(tokenizer, results, **kwargs):
    cfg = dict(
        type='transmamba_mm.TokenizeConversation',
        tokenizer=tokenizer,
        template='short',
        **kwargs)
    transform = TRANSFORMS.build(cfg)
    return transform, transform(results)


def decode(transform, ids):
    return transform.tokenizer.decode([i for i in ids if i >= 0])


def test_questions_for_training_and_for_answers(tokenizer):
    sample = dict(question='What is it?', gt_answer=['no', 'A red circle.'],
                  gt_answer_weight=[0.4, 0.6])  # yapf: disable
    transform, out = tokenize(
        tokenizer, dict(sample), question_suffix='\nIs it big?')
    assert decode(transform, out['labels']) == ' A red circle.</s>'
    assert decode(transform, out['input_ids']).startswith('<s>USER: \nWhat is')
    assert '?\nIs it big? ASSISTANT:' in decode(transform, out['input_ids'])
    transform, out = tokenize(tokenizer, dict(sample), for_answer=True)
    assert 'labels' not in out and out['gt_answer'] == sample['gt_answer']
    assert decode(transform, out['input_ids']).endswith('ASSISTANT:')
    _, out = tokenize(
        tokenizer, dict(sample, has_image=False), for_answer=True)
    assert (out['input_ids'] >= 0).all()
    for wrong in (dict(question=''), dict(question='a',
                                          gt_answer=''), dict(question='a')):
        with pytest.raises(ValueError, match='no question|no text'):
            tokenize(tokenizer, wrong)


def test_conversation_for_answer(tokenizer):
    turns = [('human', '<image>\nWhat is this?'), ('gpt', 'A red circle.')]
    transform, out = tokenize(
        tokenizer, dict(conversations=turns), for_answer=True)
    assert out['gt_answer'] == 'A red circle.'
    assert out['question'] == 'What is this?'
    assert decode(transform, out['input_ids']).endswith('ASSISTANT:')


def test_long_texts(tokenizer):
    turns = [('human', '<image>\nWhat is this?'), ('gpt', 'A red circle.')]
    sample = dict(conversations=turns, sample_id='x9')
    _, whole = tokenize(tokenizer, dict(sample))
    length = len(whole['input_ids'])
    _, cut = tokenize(tokenizer, dict(sample), max_length=length - 1)
    assert len(cut['labels']) == length - 1
    transform, out = tokenize(tokenizer, dict(sample), max_length=4)
    assert out is None and transform.num_skipped == 1
    transform, out = tokenize(
        tokenizer, dict(sample), max_length=length - 1, on_long='skip')
    assert out is None and transform.num_skipped == 1
    for kwargs in (dict(on_long='error'), dict(for_answer=True)):
        with pytest.raises(ValueError, match="x9.*max_length=4"):
            tokenize(tokenizer, dict(sample), max_length=4, **kwargs)


def test_multiple_choice(tokenizer):
    ask = TRANSFORMS.build(dict(type='transmamba_mm.AskMultipleChoice'))
    sample = dict(
        question='Is it big?', choices=['yes', 'no'], gt_answer=1, hint='A.')
    out = ask(dict(sample))
    assert out['question'] == (
        "A.\nIs it big?\nA. yes\nB. no\nAnswer with the option's letter from "
        'the given choices directly.')
    assert (out['gt_answer'], out['target_answer']) == (1, 'B')
    transform, out = tokenize(tokenizer, out)
    assert decode(transform, out['labels']) == ' B</s>'
    for wrong in (dict(choices=[]), dict(gt_answer=2)):
        with pytest.raises(ValueError, match='choices'):
            ask(dict(sample, **wrong))


def test_pad_to_square():
    pad = TRANSFORMS.build(
        dict(type='transmamba_mm.PadToSquare', color=(1, 2, 3)))
    image = np.full((4, 10, 3), 9, np.uint8)
    out = pad(dict(img=image))['img']
    assert out.shape == (10, 10, 3)
    assert np.array_equal(out[3:7], image)
    assert (out[:3] == (1, 2, 3)).all() and (out[7:] == (1, 2, 3)).all()
    tall = pad(dict(img=image.transpose(1, 0, 2).copy()))['img']
    assert (tall[:, 3:7] == 9).all()


def write_annotations(tmp_path):
    """One question about one image, as each data set writes it."""
    image = np.zeros((8, 8, 3), np.uint8)
    cv2.imwrite(str(tmp_path / 'COCO_000000000001.jpg'), image)
    name = 'COCO_000000000001.jpg'
    answers = [
        dict(answer=a, answer_confidence='yes', answer_id=i)
        for i, a in enumerate(['red', 'red', 'no'])
    ]
    files = dict(
        vizwiz=[
            dict(image=name, question='Is it?', answerable=1, answers=answers)
        ],
        gqa=[dict(image=name, question='Is it?', answer='red')],
        textvqa=dict(data=[
            dict(
                question='Is it?',
                question_id=1,
                image_id=name[:-4],
                answers=['red', 'red', 'no'])
        ]),
        questions=dict(
            questions=[dict(image_id=1, question='Is it?', question_id=1)]),
        vqa=dict(annotations=[
            dict(question_id=1, answer_type='other', answers=answers)
        ]))
    for key, value in files.items():
        (tmp_path / f'{key}.json').write_text(json.dumps(value))


def test_mmpretrain_datasets_take_the_pipeline(tmp_path, tokenizer):
    """VizWiz, VQAv2, GQA and TextVQA give what the transforms need."""
    write_annotations(tmp_path)
    pipeline = [
        dict(type='transmamba_mm.LoadImage'),
        dict(
            type='transmamba_mm.TokenizeConversation',
            tokenizer=tokenizer,
            template='short'),
        dict(type='transmamba_mm.PackConversation')
    ]
    for kind, extra in dict(
            VizWiz=dict(ann_file='vizwiz.json'),
            GQA=dict(ann_file='gqa.json'),
            TextVQA=dict(ann_file='textvqa.json'),
            COCOVQA=dict(ann_file='vqa.json',
                         question_file='questions.json')).items():
        dataset = DATASETS.build(
            dict(
                type=f'transmamba_mm.{kind}',
                data_root=str(tmp_path),
                data_prefix='',
                pipeline=pipeline,
                **extra))
        sample = dataset[0]['data_samples']
        assert (sample.labels >= 0).sum() == 2, kind  # 'red' and the end
        assert 'red' in sample.gt_answer
    assert sample.answer_type == 'other'


def test_installed_easy_vqa():
    """The counts that the package's own notes give."""
    pytest.importorskip('easy_vqa')
    train, test = EasyVQADataset('train'), EasyVQADataset('test')
    assert (len(train), len(test)) == (38575, 9673)
    yes_no = sum(info['answer_type'] == 'yes/no' for info in train)
    assert yes_no == 28407
    held_out = EasyVQADataset('val', val_images=400)
    assert len({info['image_id'] for info in held_out}) == 400
