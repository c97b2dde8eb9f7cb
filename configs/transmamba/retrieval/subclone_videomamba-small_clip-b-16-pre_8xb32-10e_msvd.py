_base_ = [
    '../../_base_/models/retrieval_videomamba-small.py',
    '../../_base_/datasets/msvd.py',
    '../../_base_/schedules/retrieval_8xb32-10e.py',
    '../../_base_/retrieval_runtime.py',
]

# TEACHER=path/to/weights.pth overrides it
teacher = '{{$TEACHER:checkpoints/clip4clip-vit-b-16_msvd.pth}}'

model = dict(text_tower=dict(pretrained=teacher))

custom_hooks = [
    dict(type='transmamba_mm.WeightSubcloneHook', checkpoint=teacher),
]
