"""Small tasks of kinds that the package does not bring, written as a user would: text, detection, image generation."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import TensorDataset

from paramdiff.seeds import generator
from paramdiff.tasks.batches import DatasetData
from paramdiff.tasks.task import Task

VOCABULARY = ["the", "a", "film", "plot", "was", "is", "very", "good", "great", "bad", "dull", "and", "not"]


class Classifier(nn.Module):
    """An LSTM over words, then a linear layer on its last state."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(1 + len(VOCABULARY), 6, padding_idx=0)
        self.lstm = nn.LSTM(6, 8, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, tokens, lengths):
        packed = pack_padded_sequence(
            self.embedding(tokens), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        return self.head(self.lstm(packed)[1][0][0])


class Reviews(Task):
    """Whether a review is kind; sentences of different lengths, in batches that are dictionaries."""

    name = "reviews"

    def model(self):
        return Classifier()

    def _data(self, split, n):
        draws = generator("reviews", split)
        items = []
        for _ in range(n):
            words = 1 + torch.randint(
                len(VOCABULARY), (int(torch.randint(3, 9, (), generator=draws)),), generator=draws
            )
            verdict = sum((w in (8, 9)) - (w in (10, 11)) for w in words.tolist())
            items.append((words, int(verdict > 0)))
        return DatasetData(items, batch_size=16, collate=_padded)

    def train_data(self):
        return self._data("train", 160)

    def test_data(self):
        return self._data("test", 64)

    def forward(self, model, batch, training):
        return model(batch["tokens"], lengths=batch["lengths"])

    def loss(self, outputs, batch):
        return cross_entropy(outputs, batch["label"])

    def predict(self, outputs, batch):
        nll = cross_entropy(outputs, batch["label"], reduction="none")
        return {"correct": outputs.argmax(-1) == batch["label"], "nll": nll}

    def metrics(self, outcomes):
        return {"accuracy": float(outcomes["correct"].double().mean())}


def _padded(items):
    words, labels = zip(*items)
    return {
        "tokens": pad_sequence(list(words), batch_first=True), "lengths": torch.tensor([len(w) for w in words]),
        "label": torch.tensor(labels),
    }  # fmt: skip


class PeakDetector(nn.Module):
    """As torchvision's detectors: losses in train mode, one dictionary an image in eval mode."""

    def __init__(self):
        super().__init__()
        self.register_buffer("cells", torch.arange(8.0))
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, images, targets=None):
        heat, *sides = self.head(self.body(torch.stack(list(images)))).unbind(1)
        if not self.training:
            return [_peak(h, torch.stack(s)) for h, *s in zip(heat, *sides)]
        if targets is None:
            raise ValueError("targets should not be none when in training mode")
        goal, sizes = torch.zeros_like(heat), torch.ones_like(torch.stack(sides))
        for i, target in enumerate(targets):
            for x0, y0, x1, y1 in target["boxes"].long().tolist():
                goal[i, (y0 + y1) // 2, (x0 + x1) // 2] = 1
                sizes[:, i] = torch.tensor([x1 - x0, y1 - y0]).float()[:, None, None]
        weight = 1 + 20 * goal
        return {
            "heat": nn.functional.binary_cross_entropy_with_logits(heat, goal, weight),
            "sides": (goal * (torch.stack(sides) - sizes).abs()).mean(),
        }


def _peak(heat, sides):
    """The best box of an image, if there is any."""
    score, place = heat.sigmoid().flatten().max(0)
    y, x = divmod(int(place), 8)
    w, h = sides[:, y, x].tolist()
    box = torch.tensor([[x - w / 2, y - h / 2, x + w / 2, y + h / 2]])
    found = score > 0.3
    return {"boxes": box[: int(found)], "scores": score[None][: int(found)]}


class AveragePrecision:
    """Area under precision over recall of boxes that overlap by half; one score over all images."""

    def __init__(self):
        self.hits, self.boxes = [], 0

    def update(self, outputs, targets):
        for found, target in zip(outputs, targets, strict=True):
            self.boxes += len(target["boxes"])
            for box, score in zip(found["boxes"], found["scores"]):
                self.hits.append((score.item(), any(_iou(box, t) > 0.5 for t in target["boxes"])))

    def compute(self):
        right = torch.tensor([hit for _, hit in sorted(self.hits, reverse=True)] or [False]).double()
        precision = right.cumsum(0) / torch.arange(1, len(right) + 1)
        return {"ap50": float((precision * right).sum() / max(1, self.boxes)), "per_class": torch.zeros(3)}


def _iou(a, b):
    low, high = torch.maximum(a[:2], b[:2]), torch.minimum(a[2:], b[2:])
    inside = (high - low).clamp(min=0).prod()
    return (inside / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - inside)).item()


class Squares(Task):
    """Find the bright rectangle in an image, if there is one."""

    name, metric = "squares", "ap50"

    def model(self):
        return PeakDetector()

    def _data(self, split, n):
        draws, items = generator("squares", split), []
        for i in range(n):
            image = 0.3 * torch.randn(1, 8, 8, generator=draws)
            x, y, w, h = (int(torch.randint(2, 5, (), generator=draws)) for _ in range(4))
            boxes = torch.tensor([[x, y, min(8, x + w), min(8, y + h)]]).float()[: int(i % 8 > 0)]
            for x0, y0, x1, y1 in boxes.long().tolist():
                image[:, y0:y1, x0:x1] += 2
            items.append((image, {"boxes": boxes}))
        return DatasetData(items, batch_size=16, collate=lambda items: tuple(map(list, zip(*items))))

    def train_data(self):
        return self._data("train", 96)

    def test_data(self):
        return self._data("test", 48)

    def forward(self, model, batch, training):
        images, targets = batch
        return model(images, targets) if training else model(images)

    def loss(self, outputs, batch):
        return sum(outputs.values())

    def metric_objects(self):
        return {"ap": AveragePrecision()}


class Denoiser(nn.Module):
    """The noise in (x, t), for points in the plane."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3, 32), nn.LayerNorm(32), nn.SiLU(),
            nn.Linear(32, 32), nn.LayerNorm(32), nn.SiLU(), nn.Linear(32, 2),
        )  # fmt: skip

    def forward(self, x, t):
        return self.layers(torch.cat([x, t], 1))


class FrechetDistance:
    """Between Gaussians with diagonal covariance, from running sums as FID keeps them."""

    def __init__(self):
        self.sums = {"real": torch.zeros(3, 2), "made": torch.zeros(3, 2)}

    def update(self, x, kind):
        x = x.double()
        self.sums[kind] = self.sums[kind] + torch.stack(
            [torch.full((2,), len(x)), x.sum(0), x.square().sum(0)]
        )

    def compute(self):
        (m, v), (n, w) = ((s / k, q / k - (s / k).square()) for k, s, q in self.sums.values())
        return (m - n).square().sum() + (v + w - 2 * (v * w).sqrt()).sum()


class Ring(Task):
    """Points on a ring, drawn by diffusion in eight steps; judged as a set, lower is better."""

    name, metric, higher_is_better = "ring", "fd", False
    STEPS = 8

    def model(self):
        return Denoiser()

    def _data(self, split, n):
        draws = generator("ring", split)
        angle = 6.2832 * torch.rand(n, generator=draws)
        x = torch.stack([1.5 * angle.cos() + 1, angle.sin()], 1)
        return TensorDataset(x, torch.randn(n, 2, generator=draws))  # every item brings its noise

    def train_data(self):
        return self._data("train", 512)

    def test_data(self):
        return self._data("test", 256)

    def forward(self, model, batch, training):
        x, noise = batch
        if training:
            t = torch.rand(len(x), 1)
            eps = torch.randn_like(x)
            return model((1 - t) * x + t * eps, t) - (eps - x)
        made = noise
        for step in range(self.STEPS, 0, -1):
            t = torch.full((len(x), 1), step / self.STEPS)
            made = made - model(made, t) / self.STEPS
        return made

    def loss(self, outputs, batch):
        return mse_loss(outputs, torch.zeros_like(outputs))

    def metric_objects(self):
        return {"fd": FrechetDistance()}

    def update_metrics(self, objects, outputs, batch):
        objects["fd"].update(batch[0], "real")
        objects["fd"].update(outputs, "made")


class Line(Task):
    """y = x w + noise."""

    name, metric, higher_is_better = "line", "mse", False

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 1))

    def train_data(self) -> TensorDataset:
        random = generator("line")
        x = torch.randn(64, 4, generator=random)
        noise = 0.1 * torch.randn(64, generator=random)
        return TensorDataset(x, x @ torch.tensor([1.0, -1.0, 0.5, 0.0]) + noise)

    def test_data(self) -> TensorDataset:
        return self.train_data()

    def loss(self, outputs: Tensor, batch: tuple[Tensor, ...]) -> Tensor:
        return mse_loss(outputs[:, 0], batch[-1])

    def predict(self, outputs: Tensor, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return {"squared_error": (outputs[:, 0] - batch[-1]).square()}

    def metrics(self, outcomes: dict[str, Tensor]) -> dict[str, float]:
        return {"mse": float(outcomes["squared_error"].mean())}
