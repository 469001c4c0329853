"""The smallest networks: two convolutions, a perceptron, LeNet-5."""

from torch import nn

from envs.errors import ScenarioError
from envs.nets.staged import Plan, Staged


def conv_small(plan: Plan, *, hidden: int = 64) -> Staged:
    """Lay out two convolutions (16, then 32 at stride 2) and two linear layers.

    Args:
        plan: for images of at least 4x4.
        hidden: units of the first linear layer.
    """
    plan.require_size(4, "use 'mlp-small'")
    _require_units(hidden)
    places = -(-plan.image_shape[1] // 2) * -(-plan.image_shape[2] // 2)
    return Staged(
        plan,
        [
            nn.Sequential(nn.Conv2d(plan.channels, 16, 3, padding=1), nn.ReLU()),
            nn.Sequential(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()),
        ],
        widths=(16, 32),
        neck=nn.Sequential(nn.Flatten(), nn.Linear(32 * places, hidden), nn.ReLU()),
        classifier=nn.Linear(hidden, plan.num_classes),
        family="cnn",
        depth=4,
        width=16,
    )


def mlp_small(plan: Plan, *, hidden: int = 64) -> Staged:
    """Lay out a perceptron with two hidden layers, each of them a stage.

    Args:
        plan: for images of any size.
        hidden: units of each hidden layer.
    """
    _require_units(hidden)
    channels, height, width = plan.image_shape
    pixels = channels * height * width
    return Staged(
        plan,
        [
            nn.Sequential(nn.Flatten(), nn.Linear(pixels, hidden), nn.ReLU()),
            nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU()),
        ],
        widths=(hidden, hidden),
        neck=nn.Identity(),
        classifier=nn.Linear(hidden, plan.num_classes),
        family="mlp",
        depth=3,
        width=hidden,
    )


def lenet5(plan: Plan) -> Staged:
    """Lay out LeNet-5 with ReLU and max-pooling.

    Images below 32 pixels are padded by 2 in the first convolution, as MNIST was in the paper.

    Source:
        LeCun et al. 1998, Gradient-based learning applied to document recognition.
    """
    plan.require_size(12, "use 'conv-small'")
    padding = 2 if plan.size < 32 else 0
    # 5x5 convolution, halve, 5x5 convolution, halve
    rows, columns = (((side + 2 * padding - 4) // 2 - 4) // 2 for side in plan.image_shape[1:])
    return Staged(
        plan,
        [
            nn.Sequential(
                nn.Conv2d(plan.channels, 6, 5, padding=padding), nn.ReLU(), nn.MaxPool2d(2)
            ),
            nn.Sequential(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        ],
        widths=(6, 16),
        neck=nn.Sequential(
            nn.Flatten(),
            nn.Linear(16 * rows * columns, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
        ),
        classifier=nn.Linear(84, plan.num_classes),
        family="cnn",
        depth=5,
        width=6,
    )


def _require_units(hidden: int) -> None:
    if hidden < 1:
        raise ScenarioError(f"expected at least 1 hidden unit, got {hidden}")
