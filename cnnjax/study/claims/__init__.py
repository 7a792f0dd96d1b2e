"""Claims of the papers as experiments that can contradict them, and the one table that names them.

A claim is data (`Claim`): what is said and where, the runs that would decide it at each tier, the
measure, the direction and the smallest effect of interest. `rule` says what counts as reproduced,
contradicted or inconclusive; `verdict` applies it to run directories.
"""

from collections.abc import Mapping

from cnnjax.study.claims import alexnet, inception, lenet, resnet, squeezenet, vgg
from cnnjax.study.claims.claim import Claim

CLAIMS: Mapping[str, Claim] = {
    "convnet-beats-mlp": lenet.CONVNET_BEATS_MLP,
    "connection-table": lenet.CONNECTION_TABLE,
    "trainable-subsampling": lenet.TRAINABLE_SUBSAMPLING,
    "locality-and-translation": lenet.LOCALITY_AND_TRANSLATION,
    "relu-faster-than-tanh": alexnet.RELU_FASTER_THAN_TANH,
    "overlapping-pooling": alexnet.OVERLAPPING_POOLING,
    "local-response-norm": alexnet.LOCAL_RESPONSE_NORM,
    "middle-layers": alexnet.MIDDLE_LAYERS,
    "dropout": alexnet.DROPOUT,
    "depth-helps": vgg.DEPTH_HELPS,
    "two-3x3-against-5x5": vgg.TWO_3X3_AGAINST_5X5,
    "spatial-context": vgg.SPATIAL_CONTEXT,
    "deep-vgg-start": vgg.DEEP_VGG_START,
    "global-pooling-head": inception.GLOBAL_POOLING_HEAD,
    "reduction-1x1": inception.REDUCTION_1X1,
    "auxiliary-heads": inception.AUXILIARY_HEADS,
    "label-smoothing": inception.LABEL_SMOOTHING,
    "relu-between-factors": inception.RELU_BETWEEN_FACTORS,
    "resnet-degradation": resnet.DEGRADATION,
    "shortcut-options": resnet.SHORTCUT_OPTIONS,
    "clean-shortcuts": resnet.CLEAN_SHORTCUTS,
    "activation-order": resnet.ACTIVATION_ORDER,
    "preactivation-at-depth": resnet.PREACTIVATION_AT_DEPTH,
    "bypass": squeezenet.BYPASS,
    "squeeze-ratio": squeezenet.SQUEEZE_RATIO,
}
