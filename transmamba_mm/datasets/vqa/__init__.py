"""Conversations about images: prompts, tokens, loss masks, datasets."""
from .conversation import (IMAGE_PLACEHOLDER, TEMPLATES, ConversationTemplate,
                           get_template, normalise_turns)
from .daquar_dataset import DaquarDataset
from .easy_vqa_dataset import EasyVQADataset
from .llava_instruct_dataset import LlavaInstructDataset
from .masked_tokens import (IGNORE_INDEX, IMAGE_TOKEN_INDEX, MaskedTokens,
                            tokenize_conversation, tokenize_prompt)
from .mmpretrain_datasets import VQA_DATASETS
from .text_tokenizer import load_text_tokenizer
from .word_tokenizer import build_word_tokenizer

__all__ = [
    'ConversationTemplate', 'DaquarDataset', 'EasyVQADataset', 'IGNORE_INDEX',
    'IMAGE_PLACEHOLDER', 'IMAGE_TOKEN_INDEX', 'LlavaInstructDataset',
    'MaskedTokens', 'TEMPLATES', 'VQA_DATASETS', 'build_word_tokenizer',
    'get_template', 'load_text_tokenizer', 'normalise_turns',
    'tokenize_conversation', 'tokenize_prompt'
]
