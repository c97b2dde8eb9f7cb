# VMamba-T behind MMSegmentation's UPerNet, for MMSegmentation's
# tools/train.py. Parsed but not run: MMSegmentation 1.2 does not accept
# mmcv 2.2.
_base_ = [
    'mmseg::swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py'  # noqa: E501
]

custom_imports = dict(imports=['transmamba_mm'], allow_failed_imports=False)

# CHECKPOINT=path/to/classifier.pth overrides it
checkpoint = '{{$CHECKPOINT:work_dirs/vmamba-s1l8-t_8xb128-300e_in1k/epoch_300.pth}}'  # noqa: E501

model = dict(
    backbone=dict(
        _delete_=True,
        type='transmamba_mm.VMamba',
        arch='s1l8-t',
        out_indices=(0, 1, 2, 3),
        out_type='featmap',
        drop_path_rate=0.2,
        init_cfg=dict(
            type='Pretrained', checkpoint=checkpoint, prefix='backbone.')),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384))
