_base_ = [
    '../_base_/models/vmamba-s1l8-t.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/adamw_8xb128-300e.py',
    '../_base_/transmamba_runtime.py',
]

# TEACHER=path/to/weights.pth overrides it
teacher_checkpoint = '{{$TEACHER:https://download.openmmlab.com/mmclassification/v0/deit/deit-small_pt-4xb256_in1k_20220218-9425b9bb.pth}}'  # noqa: E501

model = dict(
    type='transmamba_mm.DistillClassifier',
    distiller=dict(
        type='transmamba_mm.BidirectionalDistiller',
        teacher_dims=384,
        teacher_depth=12),
)

custom_hooks = [
    dict(
        type='transmamba_mm.BidirectionalDistillHook',
        teacher=dict(
            type='transmamba_mm.MMPretrainTeacher',
            config='deit-small_4xb256_in1k',
            checkpoint=teacher_checkpoint)),
]
