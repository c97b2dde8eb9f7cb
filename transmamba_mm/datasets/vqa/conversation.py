"""Conversation templates: turns to a text, with the spans that are learnt.

The texts are those of LLaVA-1.5, to the letter: a model taught with another
template than it is asked with loses much of its accuracy.
"""
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Sequence, Tuple

IMAGE_PLACEHOLDER = '<image>'
HUMAN, MODEL = 'human', 'gpt'
_SPEAKERS = dict(human=HUMAN, user=HUMAN, gpt=MODEL, assistant=MODEL)

Turn = Tuple[str, str]
Span = Tuple[int, int]


@dataclass(frozen=True)
class ConversationTemplate:
    """How turns become one text.

    Attributes:
        name (str): Its name in configs.
        system (str): Text before the first turn. Defaults to ''.
        roles (Tuple[str, str]): Names before the turns of the user and of
            the model. Defaults to ``('', '')``.
        sep (str): What ends the system text and each turn of the user.
            Defaults to ''.
        answer_sep (str, optional): What ends each turn of the model. None
            stands for the tokenizer's end mark. Defaults to None.
        single_turn (bool): Only an image and its caption. Defaults to False.
    """

    name: str
    system: str = ''
    roles: Tuple[str, str] = ('', '')
    sep: str = ''
    answer_sep: Optional[str] = None
    single_turn: bool = False

    def render(self, turns: Sequence[Turn], eos: str) -> 'RenderedText':
        """Write a conversation.

        Args:
            turns (Sequence[Tuple[str, str]]): Speakers ('human' and 'gpt' in
                turn) and texts, from :func:`normalise_turns`. If the last
                speaker is the user, the text ends where the model has to
                answer.
            eos (str): The tokenizer's end mark.

        Returns:
            RenderedText: The text and the spans that the model learns: each
            answer with the space before and the mark after it.
        """
        if self.single_turn:
            return self._render_caption(turns)
        end = eos if self.answer_sep is None else self.answer_sep
        out = RenderedText(self.system and self.system + self.sep)
        for speaker, text in turns:
            if speaker == HUMAN:
                out.text += f'{self.roles[0]}: {text}{self.sep}'
            else:
                out.text += f'{self.roles[1]}:'
                out.learn(f' {text}{end}')
        if turns[-1][0] == HUMAN:
            out.text += f'{self.roles[1]}:'
        return out

    def _render_caption(self, turns: Sequence[Turn]) -> 'RenderedText':
        out = RenderedText(IMAGE_PLACEHOLDER)
        if len(turns) > 2 or IMAGE_PLACEHOLDER not in turns[0][1]:
            raise ValueError(
                f'the template {self.name!r} is for one image and one '
                f'caption, got {len(turns)} turns, the first '
                f'{turns[0][1]!r}; use template=\'v1\' for conversations')
        for _, text in turns[1:]:
            out.learn(text + self.answer_sep)
        return out


@dataclass
class RenderedText:
    """A text and the spans of it that the model learns.

    Attributes:
        text (str): The text.
        spans (List[Tuple[int, int]]): First and one past the last character.
    """

    text: str
    spans: List[Span] = field(default_factory=list)

    def learn(self, text: str) -> None:
        """Add a text that the model learns.

        Args:
            text (str): The text.
        """
        start = len(self.text)
        self.text += text
        self.spans.append((start, len(self.text)))


TEMPLATES: Dict[str, ConversationTemplate] = {
    t.name: t
    for t in (
        ConversationTemplate(
            name='v1',
            system='A chat between a curious user and an artificial '
            'intelligence assistant. The assistant gives helpful, detailed, '
            "and polite answers to the user's questions.",
            roles=('USER', 'ASSISTANT'),
            sep=' '),
        ConversationTemplate(name='plain', answer_sep='\n', single_turn=True),
        # Our choice: without a system text, for models with a small
        # vocabulary
        ConversationTemplate(
            name='short', roles=('USER', 'ASSISTANT'), sep=' '),
    )
}


def get_template(name: str) -> ConversationTemplate:
    """Look a template up.

    Args:
        name (str): 'v1' (conversations), 'plain' (captions, the first stage
            of LLaVA) or 'short' ('v1' without its system text).

    Returns:
        ConversationTemplate: The template.

    Raises:
        ValueError: There is no such template.
    """
    if name not in TEMPLATES:
        raise ValueError(
            f'unknown conversation template {name!r}; `template` must be one '
            f'of {tuple(TEMPLATES)}')
    return TEMPLATES[name]


def normalise_turns(conversation: Sequence[dict],
                    has_image: bool = True,
                    source: str = 'the conversation') -> List[Turn]:
    """Check the turns of LLaVA's json and put the image first in its turn.

    A first turn of the model is left out, as LLaVA does.

    Args:
        conversation (Sequence[dict]): Dicts with ``from`` ('human' or 'gpt';
            'user' and 'assistant' are the same) and ``value``.
        has_image (bool): Whether the sample has an image. Defaults to True.
        source (str): Its name in errors. Defaults to 'the conversation'.

    Returns:
        List[Tuple[str, str]]: Speaker ('human' or 'gpt') and text of each.

    Raises:
        ValueError: A speaker is unknown, two turns are of the same speaker,
            there is no turn, or image and ``<image>`` do not go together.
    """
    turns = [_turn(turn, source) for turn in conversation]
    if turns and turns[0][0] == MODEL:
        turns = turns[1:]
    if not turns:
        raise ValueError(f'{source} has no question')
    for i, (speaker, _) in enumerate(turns):
        if speaker != (HUMAN, MODEL)[i % 2]:
            raise ValueError(f'{source}: turn {i} is of {speaker!r} again; '
                             'user and model must take turns')
    count = sum(text.count(IMAGE_PLACEHOLDER) for _, text in turns)
    if count != int(has_image):
        raise ValueError(
            f'{source} has {count} {IMAGE_PLACEHOLDER!r} in its text and '
            f'{int(has_image)} image; there must be as many of both (one '
            'at most)')
    return turns


def _turn(turn: dict, source: str) -> Turn:
    speaker = _SPEAKERS.get(str(turn.get('from')).lower())
    text = turn.get('value')
    if speaker is None or not isinstance(text, str):
        raise ValueError(
            f'{source}: a turn needs `from` (one of {tuple(_SPEAKERS)}) and '
            f'a text `value`, got {turn!r}')
    if IMAGE_PLACEHOLDER in text:
        rest = text.replace(IMAGE_PLACEHOLDER, '', 1).strip()
        text = f'{IMAGE_PLACEHOLDER}\n{rest}'.strip()
    return speaker, text
