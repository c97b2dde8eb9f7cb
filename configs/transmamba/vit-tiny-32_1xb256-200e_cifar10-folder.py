# Teacher: a small ViT trained on the target data
_base_ = [
    '../_base_/models/vit-tiny-32.py',
    '../_base_/datasets/cifar10-folder_32.py',
    '../_base_/schedules/adamw_1xb256-200e.py',
    '../_base_/transmamba_runtime.py',
]

# colours and shapes vary, and half of the batches are mixed (our choice)
data_preprocessor = dict(policy='TrivialAugmentWide', policy_groups=4)

model = dict(
    train_cfg=dict(
        augments=[
            dict(type='Mixup', alpha=0.8),
            dict(type='CutMix', alpha=1.0)
        ],
        probs=[0.25, 0.25]))
