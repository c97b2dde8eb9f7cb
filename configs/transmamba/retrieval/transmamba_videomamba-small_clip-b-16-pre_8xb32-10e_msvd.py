_base_ = [
    '../../_base_/models/retrieval_videomamba-small.py',
    '../../_base_/datasets/msvd.py',
    '../../_base_/schedules/retrieval_8xb32-10e.py',
    '../../_base_/retrieval_runtime.py',
]

# TEACHER=path/to/weights.pth overrides it
teacher = '{{$TEACHER:checkpoints/clip4clip-vit-b-16_msvd.pth}}'

model = dict(
    type='transmamba_mm.DistillTextVideoRetrieval',
    text_tower=dict(pretrained=teacher),
    distiller=dict(
        type='transmamba_mm.BidirectionalDistiller',
        teacher_dims=768,
        teacher_depth=12))

custom_hooks = [
    dict(type='transmamba_mm.WeightSubcloneHook', checkpoint=teacher),
    dict(
        type='transmamba_mm.BidirectionalDistillHook',
        teacher=dict(
            type='transmamba_mm.CLIP4ClipTeacher',
            model_name='ViT-B-16-quickgelu',
            pretrained=teacher)),
]
