# Crops of 1024 as VFM-UDA takes them: numbers of tue-mps/vfm-uda, datasets/.
# To a short side of so many pixels, give or take a tenth.
short_side = dict(
    type='RandomResize',
    ratio_range=(0.9, 1.1),
    keep_ratio=True,
    interpolation='bilinear',
    backend='pillow')
crop = dict(type='RandomCrop', crop_size=(1024, 1024))
# What is padded has no label, nor a trusted one.
pad = dict(type='Pad', size=(1024, 1024), pad_val=dict(img=0, seg=255))
flip = dict(type='RandomFlip', prob=0.5)
# No class fills more than three quarters of a crop.
source_steps = [dict(crop, cat_max_ratio=0.75), pad, flip, dict(type='PackSegInputs')]
margins = dict(type='MarkMargins', top=0.03, bottom=0.25, left=0.03, right=0.03)
target_steps = [crop, pad, flip, dict(type='PackTrusted')]
sampling = dict(
    type='RareClassSampling',
    temperature=0.05,
    min_pixels=3000,
    min_crop_ratio=2.0)  # 1024 x 1024 / (512 x 1024)
