# ImageNet-100: one folder a class in train and val; the folders are the
# class list
_base_ = 'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py'

data_root = 'data/imagenet100/'

data_preprocessor = dict(num_classes=100)

load = dict(type='transmamba_mm.LoadImage')
train_pipeline = [load, *_base_.train_pipeline[1:]]
test_pipeline = [load, *_base_.test_pipeline[1:]]

train_dataloader = dict(
    batch_size=128,
    dataset=dict(
        _delete_=True,
        type='transmamba_mm.ClassBalancedSubset',
        fraction=1.0,
        seed=0,
        dataset=dict(
            type='transmamba_mm.ImageFolderDataset',
            data_root=data_root,
            data_prefix='train',
            pipeline=train_pipeline)))

val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='transmamba_mm.ImageFolderDataset',
        data_root=data_root,
        data_prefix='val',
        pipeline=test_pipeline))
test_dataloader = val_dataloader
