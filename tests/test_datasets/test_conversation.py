"""Templates, tokens and loss masks, as LLaVA-1.5 has them."""
import pytest

from transmamba_mm.datasets.vqa import (IGNORE_INDEX, IMAGE_TOKEN_INDEX,
                                        get_template, normalise_turns,
                                        tokenize_conversation, tokenize_prompt)
from ..vqa_toy import TURNS, llama_like, neox_like, words_like

SYSTEM = ('A chat between a curious user and an artificial intelligence '
          'assistant. The assistant gives helpful, detailed, and polite '
          "answers to the user's questions.")
TOKENIZERS = dict(llama=llama_like, neox=neox_like, words=words_like)


@pytest.fixture(params=list(TOKENIZERS))
def tokenizer(request):
    return TOKENIZERS[request.param]()


def turn(speaker, text):
    return {'from': speaker, 'value': text}


def learnt(tokens, tokenizer):
    """The texts of the runs of labels."""
    runs, last = [], IGNORE_INDEX
    for label in tokens.labels:
        if label != IGNORE_INDEX:
            if last == IGNORE_INDEX:
                runs.append([])
            runs[-1].append(label)
        last = label
    return [tokenizer.decode(run) for run in runs]


def test_text_is_llavas():
    turns = normalise_turns(TURNS)
    text = get_template('v1').render(turns, '</s>').text
    assert text == (
        f'{SYSTEM} USER: <image>\nWhat is\nthis? ASSISTANT: A red circle.</s>'
        'USER: Is it big? ASSISTANT: no</s>')
    question = get_template('v1').render(turns[:1], '</s>').text
    assert question == (f'{SYSTEM} USER: <image>\nWhat is\nthis? ASSISTANT:')
    plain = get_template('plain').render(turns[:2], '</s>')
    assert plain.text == '<image>A red circle.\n'
    short = get_template('short').render(turns[:2], '</s>').text
    assert short == ('USER: <image>\nWhat is\nthis? ASSISTANT: A red circle.'
                     '</s>')


def test_learns_answers_and_end_marks_only(tokenizer):
    eos = tokenizer.eos_token
    tokens = tokenize_conversation(
        normalise_turns(TURNS), get_template('v1'), tokenizer)
    texts = [text.strip() for text in learnt(tokens, tokenizer)]
    assert texts == [f'A red circle.{eos}', f'no{eos}']
    assert tokens.input_ids.count(IMAGE_TOKEN_INDEX) == 1
    at = tokens.input_ids.index(IMAGE_TOKEN_INDEX)
    assert tokens.labels[at] == IGNORE_INDEX
    before = tokenizer.decode(tokens.input_ids[:at], skip_special_tokens=True)
    assert before.rstrip() == f'{SYSTEM} USER:'
    for token, label in zip(tokens.input_ids, tokens.labels):
        assert label in (token, IGNORE_INDEX)


def test_one_start_mark():
    for tokenizer in (llama_like(), words_like()):
        tokens = tokenize_conversation(
            normalise_turns(TURNS), get_template('v1'), tokenizer)
        assert tokens.input_ids[0] == tokenizer.bos_token_id
        assert tokens.input_ids.count(tokenizer.bos_token_id) == 1
    assert neox_like().bos_token_id not in tokenize_conversation(
        normalise_turns(TURNS)[:1], get_template('v1'), neox_like()).input_ids


def test_question_is_how_training_begins(tokenizer):
    """The answer continues the tokens of the question, whatever is asked."""
    template = get_template('v1')
    for answer in ('no', 'A red circle.', 'this'):
        turns = [('human', '<image>\nIs it big?'), ('gpt', answer)]
        tokens = tokenize_conversation(turns, template, tokenizer)
        prompt = tokenize_prompt('Is it big?', template, tokenizer)
        assert tokens.input_ids[:len(prompt)] == prompt
        assert tokens.labels[:len(prompt)] == [IGNORE_INDEX] * len(prompt)
        assert tokens.labels[len(prompt):] == tokens.input_ids[len(prompt):]


def test_plain_learns_the_caption(tokenizer):
    tokens = tokenize_conversation(
        normalise_turns(TURNS[:2]), get_template('plain'), tokenizer)
    start = 1 if tokenizer.bos_token != tokenizer.eos_token else 0
    assert tokens.input_ids[start] == IMAGE_TOKEN_INDEX
    assert tokens.labels[:start + 1] == [IGNORE_INDEX] * (start + 1)
    assert tokens.labels[start + 1:] == tokens.input_ids[start + 1:]
    assert learnt(tokens, tokenizer)[0].strip() == 'A red circle.'
    if tokenizer.bos_token == tokenizer.eos_token:  # bytes keep line ends
        assert learnt(tokens, tokenizer) == ['A red circle.\n']


def test_masks_are_those_of_llavas_lengths():
    """LLaVA counts tokens of the rounds; on its tokenizer both agree."""
    tokenizer = llama_like()
    turns = normalise_turns(TURNS)
    tokens = tokenize_conversation(turns, get_template('v1'), tokenizer)

    def count(text):
        pieces = [tokenizer(p).input_ids[1:] for p in text.split('<image>')]
        return sum(map(len, pieces)) + len(pieces) - 1  # without start mark

    rounds = get_template('v1').render(turns, '</s>').text.split('</s>')[:-1]
    expected, position = list(tokens.input_ids), 1
    expected[0] = IGNORE_INDEX
    for text in rounds:
        question = count(text.rsplit(' ASSISTANT:', 1)[0] + ' ASSISTANT:')
        expected[position:position + question] = [IGNORE_INDEX] * question
        position += count(text) + 1  # and the end mark
    assert position == len(expected)
    assert tokens.labels == expected


def test_truncation_keeps_the_beginning(tokenizer):
    tokens = tokenize_conversation(
        normalise_turns(TURNS), get_template('v1'), tokenizer)
    cut = tokens.truncate(len(tokens.input_ids) - 1)
    texts = [text.strip() for text in learnt(cut, tokenizer)]
    assert texts == [f'A red circle.{tokenizer.eos_token}', 'no']
    assert tokens.truncate(3).num_learnt == 0


def test_first_turn_of_the_model_is_left_out():
    turns = normalise_turns([turn('gpt', 'Hello'), *TURNS])
    assert turns == normalise_turns(TURNS)
    assert turns[0] == ('human', '<image>\nWhat is\nthis?')


@pytest.mark.parametrize('turns, has_image, message', [
    ([], False, 'no question'),
    ([turn('human', 'a')], True, "0 '<image>'"),
    ([turn('human', '<image> a <image>')], True, "2 '<image>'"),
    ([turn('human', '<image>')], False, "1 '<image>'"),
    ([turn('human', 'a'), turn('human', 'b')], False, 'turn 1'),
    ([turn('robot', 'a')], False, "'robot'"),
    ([{
        'from': 'human'
    }], False, '`value`'),
])
def test_wrong_conversations(turns, has_image, message):
    with pytest.raises(ValueError, match=f'entry 7.*{message}'):
        normalise_turns(turns, has_image, 'entry 7')


def test_wrong_templates_and_tokenizers():
    with pytest.raises(ValueError, match="'v7'.*'v1', 'plain', 'short'"):
        get_template('v7')
    with pytest.raises(ValueError, match='one image'):
        tokenize_conversation(
            normalise_turns(TURNS), get_template('plain'), words_like())
    slow = words_like()
    slow.eos_token = None
    with pytest.raises(ValueError, match='eos_token'):
        tokenize_prompt('a', get_template('v1'), slow)
    with pytest.raises(ValueError, match='use_fast'):
        tokenize_prompt('a', get_template('v1'), object())


def test_word_tokenizer(tmp_path):
    from transmamba_mm.datasets.vqa import (build_word_tokenizer,
                                            load_text_tokenizer)
    texts = ["what's the blue_shape?", 'a cup, 3 books\nyes']
    build_word_tokenizer(texts, str(tmp_path))
    tokenizer = load_text_tokenizer(str(tmp_path))
    for text in texts:
        ids = tokenizer(text).input_ids
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert tokenizer.pad_token_id == 0 and len(tokenizer) > 20
    assert tokenizer.unk_token_id in tokenizer('dog').input_ids
    rare = build_word_tokenizer(['cup cup dog'], min_count=2)
    assert 'cup' in rare.vocab and 'dog' not in rare.vocab
    with pytest.raises(ValueError, match='no words'):
        build_word_tokenizer([])
    with pytest.raises(FileNotFoundError, match='word_tokenizer.py'):
        load_text_tokenizer(str(tmp_path / 'none'))
