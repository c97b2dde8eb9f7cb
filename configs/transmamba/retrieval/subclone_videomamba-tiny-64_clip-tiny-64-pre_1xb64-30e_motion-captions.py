_base_ = [
    '../../_base_/models/retrieval_videomamba-tiny-64.py',
    '../../_base_/datasets/motion-captions.py',
    '../../_base_/schedules/retrieval_1xb64-30e.py',
    '../../_base_/retrieval_runtime.py',
]

# TEACHER=path/to/folder overrides it
teacher = '{{$TEACHER:work_dirs/clip-tiny-64_1xb64-30e_motion-captions/open_clip}}'  # noqa: E501

model = dict(text_tower=dict(pretrained=teacher))

custom_hooks = [
    dict(type='transmamba_mm.WeightSubcloneHook', checkpoint=teacher),
]
