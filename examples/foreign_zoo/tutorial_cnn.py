"""The network of PyTorch's CIFAR-10 tutorial, of which many people have shared trained copies."""

from torch import Tensor, nn
from torch.nn.functional import max_pool2d, relu


class TutorialCnn(nn.Module):
    """Two convolutions and three linear layers: 62,006 parameters for images of 3 x 32 x 32."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.conv1, self.conv2):
            x = max_pool2d(relu(conv(x)), 2)
        x = x.flatten(1)
        return self.fc3(relu(self.fc2(relu(self.fc1(x)))))
