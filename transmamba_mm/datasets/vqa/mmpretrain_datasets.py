"""MMPretrain's datasets of questions about images, under the plugin's scope.

MMPretrain registers them only where ``pycocotools`` is installed, though they
do not use it. ``type='transmamba_mm.GQA'`` is MMPretrain's own class.
"""
from mmpretrain.datasets.coco_vqa import COCOVQA
from mmpretrain.datasets.gqa_dataset import GQA
from mmpretrain.datasets.scienceqa import ScienceQA
from mmpretrain.datasets.textvqa import TextVQA
from mmpretrain.datasets.vizwiz import VizWiz

from transmamba_mm.registry import DATASETS

VQA_DATASETS = (COCOVQA, GQA, ScienceQA, TextVQA, VizWiz)

for dataset in VQA_DATASETS:
    DATASETS.register_module(module=dataset)
