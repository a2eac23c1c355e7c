# DAFormer in a run of 600 iterations, on game2video's nine classes, without rare-class sampling.
_base_ = 'daformer.py'
daformer = dict(
    self_training=dict(
        threshold=0.9,  # as in dacs_segformer_effnet-lite0.py
        alpha=0.99,
        margins=(0, 0)),  # game2video shows no hood; game2cityscapes does, not tried yet
    feature_distance=dict(classes=(5, 8)))  # sign, car
