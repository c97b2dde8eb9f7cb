"""Models of videos or images, and texts."""
from .base_text_tower import BaseTextTower, TextFeatures
from .distill_text_video_retrieval import DistillTextVideoRetrieval
from .distill_trans_llava import DistillTransLlava
from .hf_text_tower import HFTextTower
from .open_clip_text_tower import OpenCLIPTextTower
from .open_clip_video_tower import OpenCLIPVideoTower
from .text_video_retrieval import TextVideoRetrieval
from .trans_llava import TransLlava
from .vision_tower import VisionTower

__all__ = [
    'BaseTextTower', 'DistillTextVideoRetrieval', 'DistillTransLlava',
    'HFTextTower', 'OpenCLIPTextTower', 'OpenCLIPVideoTower', 'TextFeatures',
    'TextVideoRetrieval', 'TransLlava', 'VisionTower'
]
