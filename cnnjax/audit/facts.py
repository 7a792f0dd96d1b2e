"""What papers and libraries publish about the networks, with the reasons why counts differ.

A number that was read in its source is `verified`; one that is only known from hearsay of the paper
is not, and whoever prints it says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Quantity = Literal[
    "parameters",
    "parameters with auxiliary heads",
    "parameters with moving statistics",
    "multiply-adds",
    "activations",
    "weights in MB",
    "weights in MiB",
    "file in MiB",
]


@dataclass(frozen=True)
class Fact:
    """One published number, the form of our network that has it, and why the paper's form does not.

    `form` are options of the model; `unit` is how coarsely the source rounds.
    """

    model: str
    quantity: Quantity
    value: int | float
    source: str
    why: str
    form: Mapping[str, Any] = field(default_factory=dict)
    unit: int | float = 1
    verified: bool = True


@dataclass(frozen=True)
class Landmark:
    """A network in one line: the counts of its paper's form and its published error in percent."""

    name: str
    year: int
    params: int
    macs: int
    top1_error: int | float | None = None
    top5_error: int | float | None = None
    source: str = ""


TORCHVISION = {"variant": "torchvision"}
KERAS = {"variant": "keras"}
_TV, _KERAS = "torchvision 0.29", "keras.io, table of applications"
_STRIDE = (
    "The paper, Caffe and Keras halve the map in the first 1x1 of a bottleneck, torchvision and"
    " timm in its 3x3: 231,211,008 multiply-adds more, and no parameter."
)
_BUFFERS = (
    "The file also holds the running means and variances of batch norm, its counters and the"
    " container; it is measured in MiB."
)
_SAME = "Equal."


def _keras_resnet(maps: int) -> str:
    return (
        f"Keras's convolutions carry biases ({maps:,}) and its count takes in the moving means and"
        f" variances of batch norm (2 x {maps:,}), which nothing trains."
    )


FACTS: tuple[Fact, ...] = (
    # -- AlexNet
    Fact("alexnet", "parameters", 60e6, "Krizhevsky et al. 2012, abstract",
         "The paper truncates to tens of millions; its layers add up to 60,965,224.",
         unit=2e6, verified=False),
    Fact("alexnet", "parameters", 61_100_840, f"{_TV}, num_params",
         "torchvision ships the one-tower net of Krizhevsky 2014 (64-192-384-256-256 maps, no"
         " groups, no local response normalisation), on 224 pixels.",
         {**TORCHVISION, "input_shape": [224, 224, 3]}),
    Fact("alexnet", "multiply-adds", 714_188_480, f"{_TV}, _ops (0.714 x 10^9)",
         "The same net: fewer maps, but each reads all of those before it.",
         {**TORCHVISION, "input_shape": [224, 224, 3]}, unit=2e6),
    Fact("alexnet", "file in MiB", 233.087, f"{_TV}, _file_size",
         "Four bytes a parameter, in MiB of 2^20 bytes; in decimal megabytes it is 244.4.",
         {**TORCHVISION, "input_shape": [224, 224, 3]}, unit=0.1),
    Fact("alexnet", "weights in MB", 240, "Iandola et al. 2016, table 2",
         "Decimal megabytes, rounded down: 243.9. The same table gives SqueezeNet in MiB.",
         unit=10),
    Fact("alexnet", "activations", 650_000, "Krizhevsky et al. 2012, abstract (neurons)",
         "Rounded: the outputs of the eight layers add up to 659,272. The paper's 253,440 for the"
         " first layer do not fit its 55 x 55 x 96 = 290,400.", unit=1e4, verified=False),
    # -- VGG
    *(Fact(name, "parameters", millions * 1e6, "Simonyan & Zisserman 2014, table 2", _SAME,
           unit=1e6, verified=False)
      for name, millions in (("vgg11", 133), ("vgg13", 133), ("vgg16", 138), ("vgg19", 144))),
    *(Fact(name, "parameters", count, f"{_TV}, num_params", _SAME, TORCHVISION)
      for name, count in (("vgg11", 132_863_336), ("vgg13", 133_047_848),
                          ("vgg16", 138_357_544), ("vgg19", 143_667_240))),
    *(Fact(name, "parameters", count, f"{_TV}, num_params of {name}_bn",
           "Batch norm adds a scale and a shift per map; torchvision keeps the biases beside them.",
           {**TORCHVISION, "norm": "batch"})
      for name, count in (("vgg11", 132_868_840), ("vgg13", 133_053_736),
                          ("vgg16", 138_365_992), ("vgg19", 143_678_248))),
    Fact("vgg16", "weights in MiB", 528, _KERAS + " (as MB)",
         "The unit is MiB: in decimal megabytes the weights are 553.4.", KERAS),
    Fact("vgg19", "weights in MiB", 549, _KERAS + " (as MB)",
         "The unit is MiB and the table rounds up: 548.05 MiB, 574.7 decimal megabytes.",
         KERAS, unit=2),
    # -- GoogLeNet, Inception v3
    Fact("googlenet", "parameters", 6_624_904, f"{_TV}, num_params",
         "torchvision has batch norm without biases, and 3x3 where the paper has 5x5. Its count"
         " leaves the auxiliary heads out.", TORCHVISION),
    Fact("googlenet", "file in MiB", 49.731, f"{_TV}, _file_size",
         "The file has the auxiliary heads (6,379,984 parameters) that num_params leaves out, and"
         " batch norm's buffers.", TORCHVISION, unit=0.4),
    Fact("googlenet", "multiply-adds", 1_498_376_192, f"{_TV}, _ops (1.498 x 10^9)",
         "3x3 for 5x5 branches.", TORCHVISION),
    Fact("inception_v3", "parameters with auxiliary heads", 27_161_264, f"{_TV}, num_params",
         "Here torchvision counts the auxiliary head, in GoogLeNet it does not; its _ops leave the"
         " head out in both.", TORCHVISION),
    Fact("inception_v3", "multiply-adds", 5_713_216_096, f"{_TV}, _ops (5.713 x 10^9)", _SAME,
         TORCHVISION),
    Fact("inception_v3", "file in MiB", 103.903, f"{_TV}, _file_size",
         "With the auxiliary head. " + _BUFFERS, TORCHVISION, unit=0.4),
    Fact("inception_v3", "parameters with moving statistics", 23_851_784, _KERAS,
         "Keras has no auxiliary head, its batch norm has no scale (17,216 fewer), and its count"
         " takes in the moving means and variances (34,432).", KERAS),
    Fact("inception_v3", "multiply-adds", 5e9, "Szegedy et al. 2015, abstract (5 billion)",
         "The paper's 5 billion are below the layers of its own table at 299 pixels.", unit=1e9),
    # -- ResNet
    *(Fact(name, "parameters", count, f"{_TV}, num_params", _SAME, TORCHVISION)
      for name, count in (("resnet18", 11_689_512), ("resnet34", 21_797_672),
                          ("resnet50", 25_557_032), ("resnet101", 44_549_160),
                          ("resnet152", 60_192_808))),
    *(Fact(name, "multiply-adds", count, f"{_TV}, _ops", why, TORCHVISION)
      for name, count, why in (("resnet18", 1_814_073_344, _SAME),
                               ("resnet34", 3_663_761_408, _SAME),
                               ("resnet50", 4_089_184_256, _STRIDE),
                               ("resnet101", 7_801_405_440, _STRIDE),
                               ("resnet152", 11_513_626_624, _STRIDE))),
    *(Fact(name, "multiply-adds", giga * 1e9, "He et al. 2015, table 1 (FLOPs)",
           "The paper's FLOPs are multiply-adds, of the net with the stride in the first 1x1.",
           unit=0.14e9, verified=False)
      for name, giga in (("resnet18", 1.8), ("resnet34", 3.6), ("resnet50", 3.8),
                         ("resnet101", 7.6), ("resnet152", 11.3))),
    *(Fact(name, "file in MiB", size, f"{_TV}, _file_size", _BUFFERS, TORCHVISION, unit=0.5)
      for name, size in (("resnet18", 44.661), ("resnet34", 83.275), ("resnet50", 97.781),
                         ("resnet101", 170.511), ("resnet152", 230.434))),
    *(Fact(name, "parameters with moving statistics", count, _KERAS, _keras_resnet(maps), KERAS)
      for name, count, maps in (("resnet50", 25_636_712, 26_560), ("resnet101", 44_707_176, 52_672),
                                ("resnet152", 60_419_944, 75_712))),
    Fact("resnet50v2", "parameters with moving statistics", 25_613_800, _KERAS,
         "Biases where no norm follows, and the moving means and variances.", KERAS),
    Fact("resnet50v2", "parameters", 25.55e6, "timm, resnetv2_50",
         "One batch norm between the stem and the first unit, not two.", unit=1e4),
    *(Fact(f"resnet{depth}", "parameters", millions * 1e6, "He et al. 2015, table 6",
           "Option A shortcuts: the plain net of this depth has as many.",
           unit=unit * 1e6, verified=False)
      for depth, millions, unit in ((20, 0.27, 0.01), (32, 0.46, 0.01), (44, 0.66, 0.01),
                                    (56, 0.85, 0.01), (110, 1.7, 0.1), (1202, 19.4, 0.1))),
    # -- SqueezeNet
    Fact("squeezenet1_0", "weights in MiB", 4.8, "Iandola et al. 2016, table 2",
         "Binary megabytes of 2^20 bytes, 4.76; in decimal ones it is 4.99.", unit=0.1),
    Fact("squeezenet1_0", "parameters", 1_248_424, f"{_TV}, num_params", _SAME, TORCHVISION),
    Fact("squeezenet1_0", "multiply-adds", 818_924_576, f"{_TV}, _ops (0.819 x 10^9)",
         "At 224 pixels. The authors' 1.72 GFLOPS are twice the multiply-adds at 227.",
         TORCHVISION),
    Fact("squeezenet1_0", "weights in MiB", 7.7,
         "Iandola et al. 2016, table 3 (with complex bypass)",
         "1x1 convolutions where the widths differ give 6.06 MiB, on all eight Fire modules"
         " 7.94: the paper's figure is neither.", {"bypass": "complex"}, unit=0.1, verified=False),
    Fact("squeezenet1_1", "parameters", 1_235_496, f"{_TV}, num_params", _SAME, TORCHVISION),
    Fact("squeezenet1_1", "multiply-adds", 349_151_936, f"{_TV}, _ops (0.349 x 10^9)", _SAME,
         TORCHVISION),
    # -- Xception
    Fact("xception", "parameters", 22_855_952, "Chollet 2016, table 3", _SAME),
    Fact("xception", "parameters with moving statistics", 22_910_480, _KERAS,
         "Keras's count takes in the moving means and variances (2 x 27,264).", KERAS),
    Fact("xception", "weights in MiB", 88, _KERAS + " (as MB)",
         "The unit is MiB: 87.2, with the moving statistics 87.4.", KERAS, unit=2),
    # -- LeNet
    Fact("lenet5", "parameters", 60_000, "LeCun et al. 1998, section II.B",
         "Equal: the 84 x 10 centres of the output are fixed and no parameters.", verified=False),
    Fact("lenet1", "parameters", 2_578, "LeCun et al. 1990", _SAME, verified=False),
)  # fmt: skip

_VGG = "Simonyan & Zisserman 2014, table 3, one scale of 256"
_RESNET = "He et al. 2015, 10 crops"
_CIFAR = "He et al. 2015, table 6 (CIFAR-10)"

LANDMARKS: tuple[Landmark, ...] = (
    Landmark("linear", 1998, 7_850, 7_840, 12.0, None, "LeCun et al. 1998, figure 9 (MNIST)"),
    Landmark("mlp", 1998, 266_610, 266_200),
    Landmark("lenet1", 1990, 2_578, 91_520),
    Landmark("lenet5", 1998, 60_000, 325_680),
    Landmark("alexnet", 2012, 60_965_224, 724_406_816, None, 18.2,
             "Krizhevsky et al. 2012, one network"),
    Landmark("vgg11", 2014, 132_863_336, 7_609_090_048, 29.6, 10.4, _VGG),
    Landmark("vgg13", 2014, 133_047_848, 11_308_466_176, 28.7, 9.9, _VGG),
    Landmark("vgg16", 2014, 138_357_544, 15_470_264_320, 27.0, 8.8, _VGG),
    Landmark("vgg19", 2014, 143_667_240, 19_632_062_464, 27.3, 9.0, _VGG),
    Landmark("googlenet", 2014, 6_998_552, 1_582_671_872, None, 10.07,
             "Szegedy et al. 2014, table 3, one network, one crop"),
    Landmark("inception_v3", 2015, 23_834_568, 5_713_216_096, 21.2, 5.6,
             "Szegedy et al. 2015, one crop, 48,238 images"),
    Landmark("resnet18", 2015, 11_689_512, 1_814_073_344, 27.88, None, _RESNET + ", option A"),
    Landmark("plain18", 2015, 11_515_688, 1_794_805_760, 27.94, None, _RESNET),
    Landmark("resnet34", 2015, 21_797_672, 3_663_761_408, 24.52, 7.46, _RESNET),
    Landmark("plain34", 2015, 21_623_848, 3_644_493_824, 28.54, 10.02, _RESNET),
    Landmark("resnet50", 2015, 25_557_032, 3_857_973_248, 22.85, 6.71, _RESNET),
    Landmark("resnet101", 2015, 44_549_160, 7_570_194_432, 21.75, 6.05, _RESNET),
    Landmark("resnet152", 2015, 60_192_808, 11_282_415_616, 21.43, 5.71, _RESNET),
    Landmark("resnet50v2", 2016, 25_549_352, 4_089_184_256, 24.0, 7.0, _KERAS),
    Landmark("resnet101v2", 2016, 44_541_480, 7_801_405_440, 22.8, 6.2, _KERAS),
    Landmark("resnet152v2", 2016, 60_185_128, 11_513_626_624, 22.0, 5.8, _KERAS),
    Landmark("resnet20", 2015, 269_722, 40_551_040, 8.75, None, _CIFAR),
    Landmark("resnet32", 2015, 464_154, 68_862_592, 7.51, None, _CIFAR),
    Landmark("resnet44", 2015, 658_586, 97_174_144, 7.17, None, _CIFAR),
    Landmark("resnet56", 2015, 853_018, 125_485_696, 6.97, None, _CIFAR),
    Landmark("resnet110", 2015, 1_727_962, 252_887_680, 6.43, None, _CIFAR),
    Landmark("resnet1202", 2015, 19_421_274, 2_829_238_912, 7.93, None, _CIFAR),
    Landmark("squeezenet1_0", 2016, 1_248_424, 818_924_576, 42.5, 19.7, "Iandola et al. 2016"),
    Landmark("squeezenet1_1", 2016, 1_235_496, 349_151_936, 41.822, 19.376, _TV),
    Landmark("xception", 2016, 22_855_952, 8_357_403_496, 21.0, 5.5, _KERAS),
)  # fmt: skip
