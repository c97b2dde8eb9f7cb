_base_ = [
    '../../_base_/models/retrieval_videomamba-tiny-64.py',
    '../../_base_/datasets/motion-captions.py',
    '../../_base_/schedules/retrieval_1xb64-30e.py',
    '../../_base_/retrieval_runtime.py',
]

# TEACHER=path/to/folder overrides it
teacher = '{{$TEACHER:work_dirs/clip-tiny-64_1xb64-30e_motion-captions/open_clip}}'  # noqa: E501

model = dict(
    type='transmamba_mm.DistillTextVideoRetrieval',
    text_tower=dict(pretrained=teacher),
    head=dict(type='transmamba_mm.CrossMambaHead', num_candidates=64),
    distiller=dict(
        type='transmamba_mm.BidirectionalDistiller',
        teacher_dims=192,
        teacher_depth=12))

custom_hooks = [
    dict(type='transmamba_mm.WeightSubcloneHook', checkpoint=teacher),
    dict(
        type='transmamba_mm.BidirectionalDistillHook',
        teacher=dict(
            type='transmamba_mm.CLIP4ClipTeacher', model_name=teacher)),
]

val_evaluator = dict(rerank_topk=16)
test_evaluator = val_evaluator
