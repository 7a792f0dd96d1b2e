"""The papers of the architectures, as BibTeX."""

from collections.abc import Iterable

from cnnjax.study.runs import Run

ENTRIES = {
    "fukushima1980": r"""@article{fukushima1980,
  author = {Fukushima, Kunihiko},
  title = {Neocognitron: A Self-organizing Neural Network Model for a Mechanism of Pattern
           Recognition Unaffected by Shift in Position},
  journal = {Biological Cybernetics},
  volume = {36}, number = {4}, pages = {193--202}, year = {1980}
}""",
    "lecun1990": r"""@inproceedings{lecun1990,
  author = {LeCun, Yann and Boser, Bernhard and Denker, John S. and Henderson, Donnie and
            Howard, Richard E. and Hubbard, Wayne and Jackel, Lawrence D.},
  title = {Handwritten Digit Recognition with a Back-Propagation Network},
  booktitle = {Advances in Neural Information Processing Systems 2},
  pages = {396--404}, year = {1990}
}""",
    "lecun1998": r"""@article{lecun1998,
  author = {LeCun, Yann and Bottou, L{\'e}on and Bengio, Yoshua and Haffner, Patrick},
  title = {Gradient-Based Learning Applied to Document Recognition},
  journal = {Proceedings of the {IEEE}},
  volume = {86}, number = {11}, pages = {2278--2324}, year = {1998}
}""",
    "krizhevsky2012": r"""@inproceedings{krizhevsky2012,
  author = {Krizhevsky, Alex and Sutskever, Ilya and Hinton, Geoffrey E.},
  title = {{ImageNet} Classification with Deep Convolutional Neural Networks},
  booktitle = {Advances in Neural Information Processing Systems 25},
  pages = {1097--1105}, year = {2012}
}""",
    "lin2014": r"""@inproceedings{lin2014,
  author = {Lin, Min and Chen, Qiang and Yan, Shuicheng},
  title = {Network In Network},
  booktitle = {International Conference on Learning Representations},
  year = {2014}, note = {arXiv:1312.4400}
}""",
    "simonyan2015": r"""@inproceedings{simonyan2015,
  author = {Simonyan, Karen and Zisserman, Andrew},
  title = {Very Deep Convolutional Networks for Large-Scale Image Recognition},
  booktitle = {International Conference on Learning Representations},
  year = {2015}, note = {arXiv:1409.1556}
}""",
    "szegedy2015": r"""@inproceedings{szegedy2015,
  author = {Szegedy, Christian and Liu, Wei and Jia, Yangqing and Sermanet, Pierre and
            Reed, Scott and Anguelov, Dragomir and Erhan, Dumitru and Vanhoucke, Vincent and
            Rabinovich, Andrew},
  title = {Going Deeper with Convolutions},
  booktitle = {{IEEE} Conference on Computer Vision and Pattern Recognition},
  pages = {1--9}, year = {2015}, note = {arXiv:1409.4842}
}""",
    "ioffe2015": r"""@inproceedings{ioffe2015,
  author = {Ioffe, Sergey and Szegedy, Christian},
  title = {Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
           Shift},
  booktitle = {International Conference on Machine Learning},
  pages = {448--456}, year = {2015}, note = {arXiv:1502.03167}
}""",
    "szegedy2016": r"""@inproceedings{szegedy2016,
  author = {Szegedy, Christian and Vanhoucke, Vincent and Ioffe, Sergey and Shlens, Jon and
            Wojna, Zbigniew},
  title = {Rethinking the Inception Architecture for Computer Vision},
  booktitle = {{IEEE} Conference on Computer Vision and Pattern Recognition},
  pages = {2818--2826}, year = {2016}, note = {arXiv:1512.00567}
}""",
    "he2016": r"""@inproceedings{he2016,
  author = {He, Kaiming and Zhang, Xiangyu and Ren, Shaoqing and Sun, Jian},
  title = {Deep Residual Learning for Image Recognition},
  booktitle = {{IEEE} Conference on Computer Vision and Pattern Recognition},
  pages = {770--778}, year = {2016}, note = {arXiv:1512.03385}
}""",
    "he2016identity": r"""@inproceedings{he2016identity,
  author = {He, Kaiming and Zhang, Xiangyu and Ren, Shaoqing and Sun, Jian},
  title = {Identity Mappings in Deep Residual Networks},
  booktitle = {European Conference on Computer Vision},
  pages = {630--645}, year = {2016}, note = {arXiv:1603.05027}
}""",
    "iandola2016": r"""@misc{iandola2016,
  author = {Iandola, Forrest N. and Han, Song and Moskewicz, Matthew W. and Ashraf, Khalid and
            Dally, William J. and Keutzer, Kurt},
  title = {{SqueezeNet}: {AlexNet}-level accuracy with 50x fewer parameters and <0.5{MB} model
           size},
  year = {2016}, note = {arXiv:1602.07360}
}""",
    "chollet2017": r"""@inproceedings{chollet2017,
  author = {Chollet, Fran{\c{c}}ois},
  title = {Xception: Deep Learning with Depthwise Separable Convolutions},
  booktitle = {{IEEE} Conference on Computer Vision and Pattern Recognition},
  pages = {1251--1258}, year = {2017}, note = {arXiv:1610.02357}
}""",
}
# The beginning of a model's name -> its paper; the longest that fits counts.
PAPERS = {
    "neocognitron": "fukushima1980",
    "lenet1": "lecun1990",
    "lenet5": "lecun1998",
    "alexnet": "krizhevsky2012",
    "nin": "lin2014",
    "vgg": "simonyan2015",
    "googlenet": "szegedy2015",
    "inception_v3": "szegedy2016",
    "resnet": "he2016",
    "plain": "he2016",
    "squeezenet": "iandola2016",
    "xception": "chollet2017",
}


def keys(run: Run) -> list[str]:
    """The papers of a run's network: its architecture's, and batch normalisation's if it has it."""
    model = run.spec["model"]
    name = str(model["name"])
    own = ":" in name  # "package.module:factory", whatever it is called
    fitting = [begin for begin in PAPERS if name.startswith(begin) and not own]
    found = [PAPERS[max(fitting, key=len)]] if fitting else []
    # All orders of a residual unit but the original are the second paper's.
    second = name.endswith("v2") or model.get("order", "original") != "original"
    if found == ["he2016"] and second:
        found.append("he2016identity")
    if run.cost.get("params", {}).get("batch_stats"):
        found.append("ioffe2015")
    return found


def bibtex(runs: Iterable[Run]) -> str:
    """The entries of the networks in `runs`, by year as they stand above."""
    used = {key for run in runs for key in keys(run)}
    return "\n\n".join(entry for key, entry in ENTRIES.items() if key in used) + "\n" * bool(used)
