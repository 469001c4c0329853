"""The ImageNet networks of torchvision, cut into stages.

torchvision is imported when one of them is built. Weights are drawn from the passed generator as
everywhere, or read from a file; see `envs.nets.pretrained.Body` for the options they share.

Source:
    He et al. 2016, arXiv:1512.03385; Simonyan and Zisserman 2015, arXiv:1409.1556.
"""

import itertools

from torch import nn

from envs.nets.pretrained import Body
from envs.nets.staged import HeadStyle, Plan, Staged

_TOO_SMALL = "use 'resnet18-8x', or enlarge the images"


def resnet50(plan: Plan, *, weights: str = "", frozen: bool = False, enlarge: int = 0) -> Staged:
    """Lay out ResNet-50; for RGB images of at least 64x64, meant for 224.

    Exit heads on it have no ReLU, as in the released fortress for CUB200.
    """
    return _resnet(
        plan,
        "resnet50",
        Body(weights, frozen, enlarge),
        depth=50,
        widths=(256, 512, 1024, 2048),
        head_style=HeadStyle(relu=False),
    )


def resnet34(plan: Plan, *, weights: str = "", frozen: bool = False, enlarge: int = 0) -> Staged:
    """Lay out ResNet-34 in its ImageNet form; for images of at least 64x64, meant for 224."""
    return _resnet(
        plan,
        "resnet34",
        Body(weights, frozen, enlarge),
        depth=34,
        widths=(64, 128, 256, 512),
        head_style=HeadStyle(),
    )


def vgg19(
    plan: Plan,
    *,
    batch_norm: bool = True,
    weights: str = "",
    frozen: bool = False,
    enlarge: int = 0,
) -> Staged:
    """Lay out VGG-19; its stages end after the second to fifth pooling.

    Args:
        plan: for images of at least 64x64, meant for 224.
        batch_norm: normalise after every convolution.
        weights: see `envs.nets.pretrained.Body`.
        frozen: see there.
        enlarge: see there.
    """
    from torchvision import models

    body, model = Body(weights, frozen, enlarge), "vgg19_bn" if batch_norm else "vgg19"
    plan = body.plan(plan, model)
    body.seen(plan).require_size(64, _TOO_SMALL)
    build = models.vgg19_bn if batch_norm else models.vgg19
    whole = build(weights=None, init_weights=False, num_classes=plan.num_classes)
    layers = list(whole.features)
    _take_channels(layers, plan.channels)
    pools = [i for i, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    cuts = [0, *(i + 1 for i in pools[1:])]
    stages = [nn.Sequential(*layers[a:b]) for a, b in itertools.pairwise(cuts)]
    network = Staged(
        plan,
        stages,
        widths=(128, 256, 512, 512),
        neck=nn.Sequential(whole.avgpool, nn.Flatten(), *whole.classifier[:-1]),
        classifier=whole.classifier[-1],
        family="vgg",
        depth=19,
        width=64,
    )
    return body.dress(network, whole, model=model)


def _resnet(
    plan: Plan,
    model: str,
    body: Body,
    *,
    depth: int,
    widths: tuple[int, ...],
    head_style: HeadStyle,
) -> Staged:
    from torchvision import models

    plan = body.plan(plan, model)
    body.seen(plan).require_size(64, _TOO_SMALL)
    whole = models.get_model(model, weights=None, num_classes=plan.num_classes)
    stem = [whole.conv1, whole.bn1, whole.relu, whole.maxpool]
    _take_channels(stem, plan.channels)
    network = Staged(
        plan,
        [nn.Sequential(*stem, *whole.layer1), whole.layer2, whole.layer3, whole.layer4],
        widths=widths,
        neck=nn.Sequential(whole.avgpool, nn.Flatten()),
        classifier=whole.fc,
        family="resnet",
        depth=depth,
        width=64,
        head_style=head_style,
    )
    return body.dress(network, whole, model=model)


def _take_channels(layers: list[nn.Module], channels: int) -> None:
    """Replace the first convolution where the images are not RGB."""
    first = layers[0]
    assert isinstance(first, nn.Conv2d)
    if channels != first.in_channels:
        layers[0] = nn.Conv2d(
            channels,
            first.out_channels,
            first.kernel_size,  # type: ignore[arg-type]
            first.stride,  # type: ignore[arg-type]
            first.padding,  # type: ignore[arg-type]
            bias=first.bias is not None,
        )
