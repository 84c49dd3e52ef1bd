"""The same networks and losses in plain PyTorch, to measure against.

Each function builds what it needs and returns a `step()`, which does one
training step (or one pass) and returns a tensor. They are written as one
would write them for speed without a compiler: channels_last convolutions,
the fused GRU, views of one batch in one tensor, fused Adam, `lerp` for moving
averages, no host synchronisation inside a step.
"""

import copy
import itertools
import math

import torch
import torch.nn.functional as F
from torch import nn

# ------------------------------------------------------------------- update


def updated(loss, optimizer, clip=None):
    """Updates the weights by a loss, of which it gives the value.

    Args:
        loss: Scalar tensor.
        optimizer: Of the weights.
        clip: Largest norm of all gradients; any if None.
    """
    optimizer.zero_grad()
    loss.backward()
    if clip is not None:
        groups = optimizer.param_groups
        weights = [w for group in groups for w in group["params"]]
        nn.utils.clip_grad_norm_(weights, clip, foreach=True)
    optimizer.step()
    return loss.detach()


# ---------------------------------------------------------------- front end


def mel_matrix(
    sample_rate=16000,
    n_fft=1024,
    n_mels=64,
    f_min=60.0,
    f_max=7800.0,
    slaney=True,
):
    """Triangular mel weights `(n_fft // 2 + 1, n_mels)`, float32."""

    def to_mel(f):
        if not slaney:
            return 2595.0 * math.log10(1.0 + f / 700.0)
        if f < 1000.0:
            return 3.0 * f / 200.0
        return 15.0 + 27.0 * math.log(f / 1000.0) / math.log(6.4)

    def to_hz(m):
        if not slaney:
            return 700.0 * (10.0 ** (m / 2595.0) - 1.0)
        low = 200.0 * m / 3.0
        high = 1000.0 * torch.exp(math.log(6.4) / 27.0 * (m - 15.0))
        return torch.where(m < 15.0, low, high)

    mels = torch.linspace(
        to_mel(f_min), to_mel(f_max), n_mels + 2, dtype=torch.float64
    )
    edges = to_hz(mels)
    bins = torch.linspace(
        0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64
    )
    rising = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    weights = torch.minimum(rising, falling).clamp(min=0)
    if slaney:
        weights = weights * 2.0 / (edges[2:] - edges[:-2])
    return weights.float()


class LogMel(nn.Module):
    """`(batch, samples)` to log-mel `(batch, frames, mels)`."""

    def __init__(
        self,
        n_fft=1024,
        win_length=1024,
        hop_length=160,
        n_mels=64,
        power=2,
        center=True,
        log_add=1.1920929e-7,
        **mel,
    ):
        super().__init__()
        self.n_fft, self.hop_length, self.center = n_fft, hop_length, center
        self.win_length, self.power, self.log_add = win_length, power, log_add
        self.register_buffer("window", torch.hann_window(win_length))
        self.register_buffer(
            "mel", mel_matrix(n_fft=n_fft, n_mels=n_mels, **mel)
        )

    def forward(self, x):
        spectrum = torch.stft(
            x,
            self.n_fft,
            self.hop_length,
            self.win_length,
            self.window,
            center=self.center,
            return_complex=True,
        )
        power = torch.view_as_real(spectrum).square().sum(-1)
        if self.power == 1:
            power = power.sqrt()
        return (power.transpose(1, 2) @ self.mel + self.log_add).log()


def log_mel(batch=64, samples=16000, device="cpu"):
    """Log-mel of `batch` clips, without gradients."""
    front = LogMel().to(device)
    x = torch.randn(batch, samples, device=device) * 0.1

    @torch.inference_mode()
    def step():
        return front(x)

    return step


# ------------------------------------------------------------------- BYOL-A


class AudioCNN(nn.Module):
    """BYOL-A's encoder: three convolution blocks, a frame MLP, pooling."""

    def __init__(self, n_mels=64, dim=512, channels=64, blocks=3, dropout=0.3):
        super().__init__()
        layers, width = [], 1
        for _ in range(blocks):
            layers += [
                nn.Conv2d(width, channels, 3, padding=1),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            ]
            width = channels
        self.features = nn.Sequential(*layers)
        self.fc = nn.Sequential(
            nn.Linear(channels * (n_mels >> blocks), dim),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(dim, dim),
            nn.ReLU(inplace=True),
        )

    def frames(self, x):
        """`(batch, 1, mels, frames)`, channels last in memory."""
        return self.fc(self.features(x).permute(0, 3, 2, 1).flatten(2))

    def forward(self, x):
        x = self.frames(x)
        return x.amax(1) + x.mean(1)


def _mlp(dim, hidden=4096, out=256):
    return nn.Sequential(
        nn.Linear(dim, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, out),
    )


class _BYOL:
    def __init__(self, dim, device, momentum=0.99):
        self.online = nn.Sequential(AudioCNN(dim=dim), _mlp(dim))
        self.online = self.online.to(device, memory_format=torch.channels_last)
        self.target = copy.deepcopy(self.online).requires_grad_(False)
        self.predictor = _mlp(256).to(device)
        self.momentum = momentum
        self.pairs = (
            list(self.target.parameters()),
            list(self.online.parameters()),
        )
        self.optimizer = torch.optim.Adam(
            [*self.online.parameters(), *self.predictor.parameters()],
            lr=3e-4,
            fused=True,
        )

    def step(self, first, second):
        with torch.no_grad():
            targets = [self.target(v) for v in (first, second)]
        loss = 0.0
        for view, target in zip(
            (first, second), reversed(targets), strict=False
        ):
            prediction = self.predictor(self.online(view))
            cosine = F.cosine_similarity(prediction, target, dim=-1)
            loss = loss + (2 - 2 * cosine).mean()
        value = updated(loss, self.optimizer)
        with torch.no_grad():
            torch._foreach_lerp_(*self.pairs, 1 - self.momentum)
        return value


def byol_a(batch=64, dim=512, frames=96, n_mels=64, device="cpu"):
    """A BYOL-A (v1) step from two ready views `(batch, frames, mels)`."""
    model = _BYOL(dim, device)
    views = [
        torch.randn(batch, 1, n_mels, frames, device=device).contiguous(
            memory_format=torch.channels_last
        )
        for _ in range(2)
    ]
    return lambda: model.step(*views)


class _Views:
    """BYOL-A's mixup with a memory and random resized crop, batched."""

    def __init__(self, n_mels, frames, device, memory=2048):
        self.memory = torch.zeros(memory, n_mels, frames, device=device)
        self.filled = 0
        self.position = 0
        self.alpha = 0.4
        self.canvas = (n_mels, int(1.5 * frames))

    def push(self, x):
        rows = (torch.arange(len(x)) + self.position) % len(self.memory)
        self.memory[rows.to(x.device)] = x
        self.position = (self.position + len(x)) % len(self.memory)
        self.filled = min(self.filled + len(x), len(self.memory))

    def __call__(self, x):
        batch, n_mels, frames = x.shape
        if self.filled:
            pick = torch.randint(self.filled, (batch,), device=x.device)
            amount = self.alpha * torch.rand(batch, 1, 1, device=x.device)
            x = torch.log(
                (1 - amount) * x.exp()
                + amount * self.memory[pick].exp()
                + 1.19e-7
            )
        canvas_h, canvas_w = self.canvas
        top, left = (canvas_h - n_mels) // 2, (canvas_w - frames) // 2
        canvas = F.pad(
            x,
            (
                left,
                canvas_w - frames - left,
                top,
                canvas_h - n_mels - top,
            ),
        )
        out = torch.empty_like(x)
        u = torch.rand(batch, 4).tolist()
        for i in range(batch):
            h = max(min(int((0.6 + 0.9 * u[i][0]) * n_mels), canvas_h), 1)
            w = max(min(int((0.6 + 0.9 * u[i][1]) * frames), canvas_w), 1)
            a = int(u[i][2] * (canvas_h - h + 1))
            b = int(u[i][3] * (canvas_w - w + 1))
            out[i] = F.interpolate(
                canvas[None, None, i, a : a + h, b : b + w],
                size=(n_mels, frames),
                mode="bicubic",
                align_corners=True,
            )[0, 0]
        return out


def byol_a_from_waveforms(batch=64, dim=512, samples=15200, device="cpu"):
    """A BYOL-A (v1) step from waveforms: log-mel, both views, the networks."""
    model = _BYOL(dim, device)
    front = LogMel().to(device)
    x = torch.randn(batch, samples, device=device) * 0.1
    views = _Views(64, samples // 160 + 1, device)

    def step():
        with torch.no_grad():
            mel = front(x).transpose(1, 2)
            mel = (mel + 5.0) / 4.0
            pair = torch.stack([views(mel), views(mel)])
            views.push(mel)
            pair = (pair - pair.mean()) / pair.std()
            pair = pair[:, :, None].unbind()
        return model.step(
            *[v.contiguous(memory_format=torch.channels_last) for v in pair]
        )

    return step


# --------------------------------------------------------------------- COLA


class _MBConv(nn.Module):
    def __init__(self, width, out, kernel, stride, expand, drop):
        super().__init__()
        hidden = width * expand
        norm = {"eps": 1e-3, "momentum": 0.01}
        layers = []
        if expand > 1:
            layers += [
                nn.Conv2d(width, hidden, 1, bias=False),
                nn.BatchNorm2d(hidden, **norm),
                nn.SiLU(inplace=True),
            ]
        layers += [
            nn.Conv2d(
                hidden,
                hidden,
                kernel,
                stride,
                kernel // 2,
                groups=hidden,
                bias=False,
            ),
            nn.BatchNorm2d(hidden, **norm),
            nn.SiLU(inplace=True),
        ]
        self.expand = nn.Sequential(*layers)
        squeezed = max(1, width // 4)
        self.excite = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(hidden, squeezed, 1),
            nn.SiLU(inplace=True),
            nn.Conv2d(squeezed, hidden, 1),
            nn.Sigmoid(),
        )
        self.project = nn.Sequential(
            nn.Conv2d(hidden, out, 1, bias=False), nn.BatchNorm2d(out, **norm)
        )
        self.residual = stride == 1 and width == out
        self.drop = drop

    def forward(self, x):
        y = self.expand(x)
        y = self.project(y * self.excite(y))
        if not self.residual:
            return y
        if self.training and self.drop:
            keep = torch.rand(len(y), 1, 1, 1, device=y.device) >= self.drop
            y = y * (keep / (1 - self.drop))
        return x + y


class EfficientNetB0(nn.Module):
    """EfficientNet-B0 on one-channel maps, pooled by the maximum."""

    def __init__(self):
        super().__init__()
        norm = {"eps": 1e-3, "momentum": 0.01}
        layers = [
            nn.Conv2d(1, 32, 3, 2, 1, bias=False),
            nn.BatchNorm2d(32, **norm),
            nn.SiLU(inplace=True),
        ]
        stages = [
            (1, 16, 1, 1, 3),
            (2, 24, 2, 6, 3),
            (2, 40, 2, 6, 5),
            (3, 80, 2, 6, 3),
            (3, 112, 1, 6, 5),
            (4, 192, 2, 6, 5),
            (1, 320, 1, 6, 3),
        ]
        width, index = 32, 0
        for repeats, out, stride, expand, kernel in stages:
            for i in range(repeats):
                layers.append(
                    _MBConv(
                        width,
                        out,
                        kernel,
                        stride if i == 0 else 1,
                        expand,
                        0.2 * index / 16,
                    )
                )
                width, index = out, index + 1
        layers += [
            nn.Conv2d(width, 1280, 1, bias=False),
            nn.BatchNorm2d(1280, **norm),
            nn.SiLU(inplace=True),
        ]
        self.features = nn.Sequential(*layers)

    def forward(self, x):
        return self.features(x).amax((2, 3))


class _COLA(nn.Module):
    def __init__(self, encoder, width, dim=512):
        super().__init__()
        self.encoder = encoder
        self.head = nn.Sequential(
            nn.Linear(width, dim), nn.LayerNorm(dim, eps=1e-3), nn.Tanh()
        )
        self.bilinear = nn.Parameter(torch.randn(dim, dim) * 0.05)

    def forward(self, x):
        anchors, positives = self.head(self.encoder(x)).chunk(2)
        scores = anchors @ self.bilinear @ positives.T
        labels = torch.arange(len(scores), device=scores.device)
        return F.cross_entropy(scores, labels)


def cola(
    batch=32,
    frames=98,
    n_mels=64,
    encoder="efficientnet_b0",
    device="cpu",
):
    """A COLA step from ready anchors and positives, `batch` of each.

    `encoder` is "efficientnet_b0" or "cnn" (BYOL-A's, d 512).
    """
    if encoder == "cnn":
        model = _COLA(AudioCNN(n_mels), 512)
    else:
        model = _COLA(EfficientNetB0(), 1280)
    model = model.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    x = torch.randn(2 * batch, 1, n_mels, frames, device=device).contiguous(
        memory_format=torch.channels_last
    )

    def step():
        return updated(model(x), optimizer)

    return step


# ---------------------------------------------------------------------- APC


class _APC(nn.Module):
    def __init__(self, n_mels, units, layers):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.GRU(n_mels if i == 0 else units, units, batch_first=True)
            for i in range(layers)
        )
        self.out = nn.Linear(units, n_mels)

    def forward(self, x):
        for i, layer in enumerate(self.layers):
            y, _ = layer(x)
            x = y if i == 0 else x + y
        return self.out(x)


def apc(
    batch=16, frames=300, n_mels=80, units=512, layers=3, ahead=3, device="cpu"
):
    """An APC step on ready features `(batch, frames, mels)`."""
    model = _APC(n_mels, units, layers).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    x = torch.randn(batch, frames, n_mels, device=device)

    def step():
        loss = F.l1_loss(model(x[:, :-ahead]), x[:, ahead:])
        return updated(loss, optimizer, clip=1.0)

    return step


# --------------------------------------------------------------------- TERA


class _Attention(nn.Module):
    def __init__(self, units, heads, dropout):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(units, 3 * units)
        self.out = nn.Linear(units, units)

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = (
            part.view(b, t, self.heads, -1).transpose(1, 2)
            for part in self.qkv(x).chunk(3, dim=-1)
        )
        x = F.scaled_dot_product_attention(
            q, k, v, dropout_p=self.dropout if self.training else 0.0
        )
        return self.out(x.transpose(1, 2).reshape(b, t, -1))


class _Block(nn.Module):
    def __init__(self, units, heads, dropout):
        super().__init__()
        self.attention = _Attention(units, heads, dropout)
        self.norms = nn.ModuleList(
            nn.LayerNorm(units, eps=1e-12) for _ in range(2)
        )
        self.feed = nn.Sequential(
            nn.Linear(units, 4 * units), nn.GELU(), nn.Linear(4 * units, units)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        x = self.norms[0](x + self.dropout(self.attention(x)))
        return self.norms[1](x + self.dropout(self.feed(x)))


class _Transformer(nn.Module):
    def __init__(self, n_mels, units, layers, heads, dropout, frames, shared):
        super().__init__()
        self.embed = nn.Linear(n_mels, units)
        place = torch.arange(frames)[:, None]
        angle = place / 10000 ** (torch.arange(0, units, 2) / units)
        table = torch.stack([angle.sin(), angle.cos()], -1).flatten(1)
        self.register_buffer("table", table)
        self.norm, self.dropout = nn.LayerNorm(units), nn.Dropout(dropout)
        self.times = layers if shared else 1
        self.layers = nn.ModuleList(
            _Block(units, heads, dropout)
            for _ in range(1 if shared else layers)
        )
        self.head = nn.Sequential(
            nn.Linear(units, units), nn.GELU(), nn.LayerNorm(units),
            nn.Linear(units, n_mels),
        )  # fmt: skip

    def forward(self, x):
        x = self.dropout(self.norm(self.embed(x) + self.table[: x.shape[1]]))
        for _ in range(self.times):
            for layer in self.layers:
                x = layer(x)
        return self.head(x)


def tera(
    batch=4,
    frames=500,
    n_mels=80,
    units=768,
    layers=3,
    heads=12,
    dropout=0.1,
    method="TERA",
    device="cpu",
):
    """A step on ready features: alteration, transformer, masked L1, AdamW."""
    model = _Transformer(
        n_mels, units, layers, heads, dropout, frames, method == "AudioALBERT"
    ).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    x = torch.randn(batch, frames, n_mels, device=device)
    spans, channels = round(0.15 * frames / 7), method == "TERA"

    def alter():
        hidden = torch.zeros(batch, frames, n_mels, dtype=torch.bool)
        for row in hidden:
            for start in torch.randperm(frames - 7)[:spans].tolist():
                row[start : start + 7] = True
            if channels:
                width = int(torch.randint(0, n_mels // 5 + 1, ()))
                start = int(torch.randint(0, n_mels - width, ()))
                row[:, start : start + width] = True
        return hidden.to(device)

    def step():
        hidden = alter()
        error = (model(x.masked_fill(hidden, 0.0)) - x).abs()
        loss = (error * hidden).sum() / hidden.sum()
        return updated(loss, optimizer, clip=5.0)

    return step


# --------------------------------------------------------------------- DAPC


class _DAPC(nn.Module):
    def __init__(self, n_mels, units, layers, dim):
        super().__init__()
        self.rnn = nn.GRU(
            n_mels, units, layers, batch_first=True, bidirectional=True
        )
        self.last = nn.Linear(2 * units, dim)
        sizes = [dim, 512, 512, 512]
        hidden = [
            part
            for a, b in itertools.pairwise(sizes)
            for part in (nn.Linear(a, b), nn.ELU())
        ]
        self.decoder = nn.Sequential(*hidden, nn.Linear(512, n_mels))

    def encode(self, x):
        return self.last(self.rnn(x)[0])


def _information(z, window):
    windows = (
        z.unfold(1, 2 * window, 1).transpose(2, 3).flatten(2).flatten(0, 1)
    )
    off = windows - windows.mean(0)
    sigma = off.T @ off / len(off) + 1e-4 * torch.eye(off.shape[1])
    half = len(sigma) // 2
    past = torch.linalg.slogdet(sigma[:half, :half])[1]
    return past - 0.5 * torch.linalg.slogdet(sigma)[1]


def dapc(
    batch=32, frames=200, n_mels=80, units=256, layers=3, dim=64, device="cpu"
):
    """A step on ready features, without Toeplitz averaging."""
    model = _DAPC(n_mels, units, layers, dim).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    x = torch.randn(batch, frames, n_mels, device=device)

    def step():
        hidden = torch.zeros(batch, frames, n_mels, dtype=torch.bool)
        for row in hidden:
            for _ in range(2):
                width = int(torch.randint(0, 28, ()))
                start = int(torch.randint(0, n_mels - width + 1, ()))
                row[:, start : start + width] = True
                width = int(torch.randint(0, 41, ()))
                start = int(torch.randint(0, frames - width + 1, ()))
                row[start : start + width] = True
        hidden = hidden.to(device)
        z = model.encode(x)
        seen = model.decoder(model.encode(x.masked_fill(hidden, 0.0)))
        off = z.flatten(0, 1) - z.mean((0, 1))
        off = off.T @ off / (batch * frames) - torch.eye(dim)
        loss = -_information(z, 4) + 0.1 * off.square().sum()
        error = (seen - x).abs() * hidden
        loss = loss + 5.0 * error.sum() / hidden.sum()
        return updated(loss, optimizer, clip=5.0)

    return step


# ---------------------------------------------------------------------- NPC


class _NPCBlock(nn.Module):
    def __init__(self, width, units):
        super().__init__()
        self.conv = nn.Conv1d(width, units, 3, padding=1)
        self.linear = nn.Conv1d(units, units, 1)
        self.norms = nn.ModuleList(nn.BatchNorm1d(units) for _ in range(2))
        self.drop = nn.Dropout(0.1)
        self.residual = width == units

    def forward(self, x):
        y = F.relu(self.norms[0](self.conv(x)))
        y = self.drop(self.norms[1](self.linear(y)))
        return F.relu(x + y if self.residual else y)


class _NPC(nn.Module):
    def __init__(self, n_mels, units, blocks, kernel_size, mask, groups, codes):
        super().__init__()
        self.blocks = nn.ModuleList(
            _NPCBlock(units if i else n_mels, units) for i in range(blocks)
        )
        self.convs = nn.ModuleList(
            nn.Conv1d(units, units, kernel_size, padding=kernel_size // 2)
            for _ in range(blocks)
        )
        live = torch.ones(blocks, kernel_size)
        for i in range(blocks):
            masked = mask + 2 * (i + 1)
            first = (kernel_size - masked) // 2
            live[i, first : first + masked] = 0
        self.register_buffer("live", live)
        self.logits = nn.ModuleList(
            nn.Linear(units // groups, codes) for _ in range(groups)
        )
        self.codebooks = nn.ModuleList(
            nn.Linear(codes, units // groups, bias=False) for _ in range(groups)
        )
        self.out = nn.Linear(units, n_mels)

    def forward(self, x):
        x, feature = x.transpose(1, 2), 0.0
        for block, conv, live in zip(
            self.blocks, self.convs, self.live, strict=True
        ):
            x = block(x)
            y = F.conv1d(x, conv.weight * live, conv.bias, padding="same")
            feature = feature + torch.tanh(y)
        parts = feature.transpose(1, 2).chunk(len(self.logits), dim=-1)
        coded = [
            codebook(F.gumbel_softmax(logits(part), hard=True))
            for part, logits, codebook in zip(
                parts, self.logits, self.codebooks, strict=True
            )
        ]
        return self.out(torch.cat(coded, dim=-1))


def npc(
    batch=8, frames=200, n_mels=80, units=512, blocks=4, kernel_size=15,
    mask=5, groups=4, codes=64, device="cpu",
):  # fmt: skip
    """An NPC step on ready features; masks multiply, as in the release."""
    model = _NPC(n_mels, units, blocks, kernel_size, mask, groups, codes)
    model = model.to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    x = torch.randn(batch, frames, n_mels, device=device)

    def step():
        loss = F.l1_loss(model(x), x)
        return updated(loss, optimizer, clip=5.0)

    return step


# --------------------------------------------------------------- Speech2Vec


class _Speech2Vec(nn.Module):
    def __init__(self, bins, units):
        super().__init__()
        dim = 2 * units
        self.encoder = nn.LSTM(
            bins, units, batch_first=True, bidirectional=True
        )
        self.decoder = nn.LSTM(dim, dim, batch_first=True)
        self.out = nn.Linear(dim, bins)

    def encode(self, x, lengths):
        """The last states of both directions of `(words, frames, bins)`."""
        packed = nn.utils.rnn.pack_padded_sequence(
            x, lengths, batch_first=True, enforce_sorted=False
        )
        _, (state, _) = self.encoder(packed)
        return state.transpose(0, 1).flatten(1)

    def decode(self, z, frames):
        start = torch.tanh(z)[None]
        y, _ = self.decoder(
            z[:, None].expand(-1, frames, -1), (start, torch.zeros_like(start))
        )
        return self.out(y)


def speech2vec(
    batch=16, words=16, frames=100, units=25, window=3, task="skipgram",
    device="cpu",
):  # fmt: skip
    """A step on ready features: each word read once, and written from once."""
    model = _Speech2Vec(13, units).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    x = torch.randn(batch, words, frames, 13, device=device)
    lengths = torch.randint(10, frames, (batch, words))
    valid = torch.arange(frames) < lengths[..., None]
    valid = valid.to(device)
    pairs = [i for i in range(-window, window + 1) if i]

    def around(y):
        """The neighbours of each word, `(batch, words, 2 * window, ...)`."""
        ends = [0, 0] * (y.dim() - 2) + [window, window]
        y = F.pad(y, ends)
        return torch.stack(
            [y[:, window + i : window + i + words] for i in pairs], 2
        )

    def step():
        z = model.encode(x.flatten(0, 1), lengths.flatten())
        if task == "skipgram":
            target, mask = around(x), around(valid)
        else:
            z = around(z.unflatten(0, (batch, words))).sum(2).flatten(0, 1)
            target, mask = x[:, :, None], valid[:, :, None]
        y = model.decode(z, frames).unflatten(0, (batch, words))[:, :, None]
        error = (y - target).square().mean(-1) * mask
        loss = error.sum() / mask.sum()
        return updated(loss, optimizer, clip=5.0)

    return step


# ----------------------------------------------------------------- slices


class _Factorized(nn.Module):
    def __init__(self, width, filters, pool=True, double=False):
        super().__init__()
        kernels = [(3, 1), (1, 3)][:: -1 if double else 1]
        layers = []
        for channels, kernel in zip((width, filters), kernels, strict=True):
            pad = kernel[0] // 2, kernel[1] // 2
            layers += [
                nn.Conv2d(channels, filters, kernel, 1, pad, bias=False),
                nn.BatchNorm2d(filters),
                nn.ReLU(inplace=True),
            ]
        self.layers = nn.Sequential(*layers[:-1])
        self.around = nn.Conv2d(width, filters, 1, bias=False)
        self.pool = nn.MaxPool2d(2, ceil_mode=True) if pool else nn.Identity()
        self.double = double

    def forward(self, x):
        y = self.around(x)
        if self.double:
            x, y = (F.interpolate(v, scale_factor=2) for v in (x, y))
        return self.pool(F.relu(self.layers(x) + y))


class _Slices(nn.Module):
    """`(slices, frames, bins)` to vectors."""

    def __init__(self, channels=(8, 16, 32, 64, 128), dim=128):
        super().__init__()
        widths = zip((1, *channels), channels, strict=False)
        self.blocks = nn.Sequential(*(_Factorized(*w) for w in widths))
        self.dense = nn.Linear(channels[-1], dim)

    def forward(self, x):
        x = x[:, None].contiguous(memory_format=torch.channels_last)
        return self.dense(self.blocks(x).amax((2, 3)))


class _SliceDecoder(nn.Module):
    def __init__(self, dim, frames, bins, slices):
        super().__init__()
        channels = (128, 64, 32, 16, 8, 8)
        self.least = (frames // 32, bins // 32, 128)
        self.dense = nn.Linear(dim, math.prod(self.least))
        self.blocks = nn.Sequential(
            *(
                _Factorized(*w, pool=False, double=True)
                for w in itertools.pairwise(channels)
            )
        )
        self.out = nn.Conv2d(8, slices, 1)

    def forward(self, x):
        x = F.relu(self.dense(x)).unflatten(1, self.least)
        return self.out(self.blocks(x.permute(0, 3, 1, 2)))


def _on_slices(parts, loss, device):
    parts = [
        part.to(device, memory_format=torch.channels_last) for part in parts
    ]
    weights = [w for part in parts for w in part.parameters()]
    optimizer = torch.optim.Adam(weights, lr=1e-3, fused=True)

    def step():
        return updated(loss(*parts), optimizer)

    return step


def audio2vec(
    batch=32, frames=96, n_mels=64, context=2, task="cbow", device="cpu"
):
    """An Audio2Vec step on ready slices of features."""
    x = torch.randn(batch, 2 * context + 1, frames, n_mels, device=device)
    middle = x[:, context : context + 1]
    around = torch.cat([x[:, :context], x[:, context + 1 :]], 1)
    seen, target = (around, middle) if task == "cbow" else (middle, around)
    decoder = _SliceDecoder(
        128 * seen.shape[1], frames, n_mels, target.shape[1]
    )

    def loss(encoder, decoder):
        vectors = encoder(seen.flatten(0, 1)).view(batch, -1)
        return F.mse_loss(decoder(vectors), target)

    return _on_slices([_Slices(), decoder], loss, device)


def temporal_gap(batch=32, frames=96, n_mels=64, device="cpu"):
    """A TemporalGap step on two ready slices of features."""
    x = torch.randn(2 * batch, frames, n_mels, device=device)
    gap = torch.linspace(0, 1, batch, device=device)
    head = nn.Sequential(
        nn.Linear(256, 64), nn.ReLU(inplace=True), nn.Linear(64, 1)
    )

    def loss(encoder, head):
        logit = head(encoder(x).view(batch, -1))[:, 0]
        return F.binary_cross_entropy_with_logits(logit, gap)

    return _on_slices([_Slices(), head], loss, device)


def permutations(batch=32, frames=96, n_mels=64, patches=8, device="cpu"):
    """A step of ranking shuffled bands, by the expected perturbed loss."""
    x = torch.randn(batch, frames, n_mels, device=device)
    x = x.unflatten(2, (patches, -1)).transpose(1, 2)
    head = nn.Sequential(
        nn.Linear(patches * 128, 512), nn.ReLU(inplace=True),
        nn.Linear(512, patches),
    )  # fmt: skip

    def loss(encoder, head):
        order = torch.rand(batch, patches, device=device).argsort(1)
        shuffled = x.take_along_dim(order[..., None, None], 1)
        scores = head(encoder(shuffled.flatten(0, 1)).view(batch, -1))
        margin = (scores[:, :, None] - scores[:, None]) / math.sqrt(2)
        below = torch.special.ndtr(-margin)
        density = torch.exp(-0.5 * margin**2) / math.sqrt(2 * math.pi)
        hinge = math.sqrt(2) * (density - margin * below)
        above = order[:, :, None] > order[:, None]
        return (hinge * above).sum((1, 2)).mean()

    return _on_slices([_Slices((32, 64, 128)), head], loss, device)


# ------------------------------------------------- masked reconstruction


def _sinusoids(frames, dim):
    place, even = torch.arange(frames)[:, None], torch.arange(0, dim, 2)
    angle = place * torch.exp(even * (-math.log(10000.0) / dim))
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)


def _layers(dim, heads, inner, layers, activation, pre_norm):
    layer = nn.TransformerEncoderLayer(
        dim, heads, inner, 0.1, activation, batch_first=True,
        norm_first=pre_norm,
    )  # fmt: skip
    norm = nn.LayerNorm(dim) if pre_norm else None
    return nn.TransformerEncoder(
        layer, layers, norm, enable_nested_tensor=False
    )


class _MPC(nn.Module):
    def __init__(self, mels, filters, layers, dim=512):
        super().__init__()
        convs, width = [], 1
        for _ in range(2):
            convs += [
                nn.Conv2d(width, filters, 3, 2, 1, bias=False),
                nn.BatchNorm2d(filters, eps=1e-3),
                nn.ReLU6(inplace=True),
            ]
            width = filters
        self.convs = nn.Sequential(*convs)
        self.dense = nn.Linear(mels // 4 * filters, dim)
        self.drop = nn.Dropout(0.1)
        gelu = nn.GELU("tanh")
        self.layers = _layers(dim, 8, 1280, layers, gelu, False)
        self.head = nn.Linear(dim, 4 * mels)

    def forward(self, x):
        y = self.convs(x[:, None]).permute(0, 2, 3, 1).flatten(2)
        y = F.relu6(self.dense(y))
        y = y + _sinusoids(*y.shape[1:]).to(y.device)
        return self.head(self.layers(self.drop(y))).reshape(x.shape)


class _MAM(nn.Module):
    def __init__(self, mels, layers, dim=256):
        super().__init__()
        self.rows = mels // 4
        self.convs = nn.Sequential(
            nn.Conv2d(1, dim, 3, 2, 1), nn.ReLU(inplace=True),
            nn.Conv2d(dim, dim, 3, 2, 1), nn.ReLU(inplace=True),
        )  # fmt: skip
        self.dense = nn.Linear(self.rows * dim, dim)
        self.drop = nn.Dropout(0.1)
        self.layers = _layers(dim, 4, 2048, layers, F.relu, True)
        self.out = nn.Linear(dim, self.rows * dim)
        self.back = nn.Sequential(
            nn.ConvTranspose2d(dim, dim, 3, 2, 1, 1), nn.ReLU(inplace=True),
            nn.ConvTranspose2d(dim, 1, 3, 2, 1, 1),
        )  # fmt: skip

    def forward(self, x):
        y = self.convs(x[:, None]).permute(0, 2, 3, 1).flatten(2)
        y = self.dense(y) * y.shape[-1] ** 0.5
        y = y + _sinusoids(*y.shape[1:]).to(y.device)
        y = self.out(self.layers(self.drop(y)))
        y = y.unflatten(2, (self.rows, -1)).permute(0, 3, 1, 2)
        return self.back(y)[:, 0]


def _rebuilding(model, x, optimizer, hide, clip):
    model = model.to(x.device, memory_format=torch.channels_last)

    def step():
        hidden, loss_of = hide(x)
        loss = loss_of(model(hidden))
        return updated(loss, optimizer, clip=clip)

    return step


def mpc(batch=8, frames=400, n_mels=40, filters=64, layers=3, device="cpu"):
    """An MPC step on ready features `(batch, frames, mels)`."""
    model = _MPC(n_mels, filters, layers).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def hide(x):
        chunks = torch.rand(batch, frames // 4, device=device) < 0.15
        label = chunks.repeat_interleave(4, 1)[..., None].float()

        def loss(y):
            return ((y - x).abs() * label).sum() / (label.sum() * n_mels)

        return x * (1 - label), loss

    x = torch.randn(batch, frames, n_mels, device=device)
    return _rebuilding(model, x, optimizer, hide, 100.0)


def mam(batch=8, frames=400, n_mels=80, layers=3, device="cpu"):
    """A MAM step on ready features; single frames are hidden, not spans."""
    model = _MAM(n_mels, layers).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    vector = torch.randn(n_mels, device=device)

    def hide(x):
        hidden = torch.rand(batch, frames, 1, device=device) < 0.15
        return torch.where(hidden, vector, x), lambda y: F.mse_loss(y, x)

    x = torch.randn(batch, frames, n_mels, device=device)
    return _rebuilding(model, x, optimizer, hide, 5.0)


# ------------------------------------------------- Fonseca et al. and CLAR


class _Residual(nn.Module):
    def __init__(self, width, out, stride):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(width, out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(inplace=True),
            nn.Conv2d(out, out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.skip = nn.Identity()
        if stride != 1 or width != out:
            self.skip = nn.Sequential(
                nn.Conv2d(width, out, 1, stride, bias=False),
                nn.BatchNorm2d(out),
            )

    def forward(self, x):
        return F.relu(self.main(x) + self.skip(x), inplace=True)


class ResNet18(nn.Module):
    """ResNet-18 averaged over the map."""

    def __init__(self, channels):
        super().__init__()
        layers = [
            nn.Conv2d(channels, 64, 7, 2, 3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1),
        ]
        width = 64
        for stage in range(4):
            out = 64 * 2**stage
            stride = 1 if stage == 0 else 2
            layers += [_Residual(width, out, stride), _Residual(out, out, 1)]
            width = out
        self.layers = nn.Sequential(*layers)
        self.width = width

    def forward(self, x):
        return self.layers(x).mean((2, 3))


class _VGG(nn.Module):
    def __init__(self, width=512):
        super().__init__()
        layers, channels = [], 1
        for out, count in ((32, 3), (64, 2), (128, 1)):
            for _ in range(count):
                layers += [
                    nn.Conv2d(channels, out, 3, 1, 1, bias=False),
                    nn.BatchNorm2d(out),
                    nn.ReLU(inplace=True),
                ]
                channels = out
            layers.append(nn.MaxPool2d(2))
        self.layers = nn.Sequential(*layers)
        self.dense = nn.Linear(2 * channels, width)
        self.width = width

    def forward(self, x):
        x = self.layers(x)
        x = torch.cat([x.amax((2, 3)), x.mean((2, 3))], 1)
        return F.relu(self.dense(x))


def _head(width, hidden, out, deep):
    layers = []
    for _ in range(1 + deep):
        layers += [
            nn.Linear(width, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
        ]
        width = hidden
    return nn.Sequential(*layers, nn.Linear(hidden, out, bias=not deep))


def _nt_xent(first, second, temperature):
    z = F.normalize(torch.cat([first, second]))
    scores = z @ z.T / temperature
    scores.fill_diagonal_(float("-inf"))
    count = len(first)
    partner = torch.arange(2 * count, device=z.device)
    return F.cross_entropy(scores, (partner + count) % (2 * count))


def _contrasting(encoder, deep, x, temperature, optimizer, device):
    head = _head(encoder.width, 512, 128, deep)
    model = nn.Sequential(encoder, head)
    model = model.to(device, memory_format=torch.channels_last)
    optimizer = optimizer(model.parameters())
    views = [
        torch.randn(x, device=device).contiguous(
            memory_format=torch.channels_last
        )
        for _ in range(2)
    ]

    def step():
        loss = _nt_xent(*(model(view) for view in views), temperature)
        return updated(loss, optimizer)

    return step


def fonseca(batch=16, frames=101, n_mels=96, encoder="resnet18", device="cpu"):
    """A step of Fonseca et al. from two ready views of log-mels."""

    def sgd(parameters):
        return torch.optim.SGD(
            parameters, 0.03, momentum=0.9, weight_decay=1e-4
        )

    network = _VGG() if encoder == "vgg" else ResNet18(1)
    shape = (batch, 1, frames, n_mels)
    return _contrasting(network, False, shape, 0.2, sgd, device)


def clar(batch=8, frames=126, n_mels=128, device="cpu"):
    """A step of CLAR from two ready views of three channels."""

    def adam(parameters):
        return torch.optim.Adam(parameters, lr=1e-3, fused=True)

    shape = (batch, 3, n_mels, frames)
    return _contrasting(ResNet18(3), True, shape, 0.5, adam, device)


def joint(batch=64, frames=94, n_mels=64, device="cpu"):
    """A step of contrast and denoising from two ready views of log-mels."""
    encoder = AudioCNN(n_mels, dropout=0.0)
    encoder = encoder.to(device, memory_format=torch.channels_last)
    head, decoder = _mlp(512, 1024, 128), nn.Linear(512, 8 * n_mels)
    head, decoder = head.to(device), decoder.to(device)
    parts = (encoder, head, decoder)
    optimizer = torch.optim.AdamW(
        [p for part in parts for p in part.parameters()], lr=1e-3, fused=True
    )
    targets = [torch.randn(batch, frames, n_mels, device=device) for _ in "ab"]
    views = [
        x.transpose(1, 2)[:, None].contiguous(memory_format=torch.channels_last)
        for x in targets
    ]

    def step():
        projected, error = [], 0.0
        for view, target in zip(views, targets, strict=True):
            x = encoder.frames(view)
            projected.append(head(x.amax(1) + x.mean(1)))
            made = decoder(x).reshape(batch, -1, n_mels)
            error = error + F.l1_loss(made, target[:, : made.shape[1]]) / 2
        return updated(_nt_xent(*projected, 0.2) + error, optimizer)

    return step


# ---------------------------------------------------------------- embedding


# ---------------------------------------------------------------------- LIM


class _SincConv(nn.Module):
    def __init__(self, filters=80, taps=251, rate=16000):
        super().__init__()
        low, high = (
            2595 * math.log10(1 + 30 / 700),
            2595 * math.log10(1 + (rate / 2 - 100) / 700),
        )
        mel = torch.linspace(low, high, filters + 1)
        edges = 700 * (10 ** (mel / 2595) - 1)
        self.low = nn.Parameter(edges[:-1, None].clone())
        self.band = nn.Parameter(edges.diff()[:, None])
        half, self.top = taps // 2, rate / 2
        place = torch.linspace(0, taps / 2 - 1, half)
        window = 0.54 - 0.46 * torch.cos(2 * math.pi * place / taps)
        phase = 2 * math.pi * torch.arange(-half, 0.0)[None] / rate
        self.register_buffer("window", window)
        self.register_buffer("phase", phase)

    def forward(self, x):
        low = 50 + self.low.abs()
        high = (low + 50 + self.band.abs()).clamp(50, self.top)
        left = torch.sin(high * self.phase) - torch.sin(low * self.phase)
        left = left / (self.phase / 2) * self.window
        band = 2 * (high - low)
        taps = torch.cat([left, band, left.flip(1)], 1) / band
        return F.conv1d(x, taps[:, None])


class _TimeNorm(nn.Module):
    def __init__(self, *shape):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(shape))
        self.beta = nn.Parameter(torch.zeros(shape))

    def forward(self, x):
        std, mean = torch.std_mean(x, -1, keepdim=True)
        return self.gamma * (x - mean) / (std + 1e-6) + self.beta


class _SincNet(nn.Module):
    def __init__(self, samples):
        super().__init__()
        self.start = _TimeNorm(samples)
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        time, width = samples - 250, 80
        self.convs.append(_SincConv())
        for filters in (60, 60, None):
            time //= 3
            self.norms.append(_TimeNorm(width, time))
            if filters:
                self.convs.append(nn.Conv1d(width, filters, 5))
                time, width = time - 4, filters
        layers, flat = [_TimeNorm(width * time)], width * time
        for _ in range(3):
            layers += [nn.Linear(flat, 2048), nn.BatchNorm1d(2048, 1e-5, 0.05),
                       nn.LeakyReLU(0.2)]  # fmt: skip
            flat = 2048
        self.dense = nn.Sequential(*layers)

    def forward(self, x):
        x = self.start(x)[:, None]
        for i, (conv, norm) in enumerate(
            zip(self.convs, self.norms, strict=True)
        ):
            x = conv(x)
            x = F.max_pool1d(x if i else x.abs(), 3)
            x = F.leaky_relu(norm(x), 0.2)
        return self.dense(x.flatten(1))


def lim(batch=16, samples=3200, device="cpu"):
    """A LIM step (BCE) from ready chunks, both of a clip in one batch."""
    encoder = _SincNet(samples).to(device)
    score = nn.Sequential(
        nn.Linear(4096, 256), nn.ReLU(), nn.Linear(256, 1)
    ).to(device)
    weights = [*encoder.parameters(), *score.parameters()]
    optimizer = torch.optim.RMSprop(weights, lr=1e-3, alpha=0.95, foreach=True)
    x = 0.1 * torch.randn(2 * batch, samples, device=device)

    def step():
        gain = 0.8 + 0.4 * torch.rand(len(x), 1, device=device)
        first, second = encoder(gain * x).chunk(2)
        shift = 1 + torch.randint(batch - 1, (batch,), device=device)
        other = second[(torch.arange(batch, device=device) + shift) % batch]
        positive = score(torch.cat([first, second], 1))
        negative = score(torch.cat([first, other], 1))
        loss = F.softplus(-positive).mean() + F.softplus(negative).mean()
        return updated(loss, optimizer)

    return step


# ------------------------------------------------------------ multi-format


class _WaveformConv(nn.Module):
    def __init__(self, units=512):
        super().__init__()
        layers, width = [], 1
        for taps, stride in ((10, 5), *(((4, 2),) * 5)):
            layers += [nn.Conv1d(width, units, taps, stride, bias=False),
                       nn.GroupNorm(32, units), nn.ReLU()]  # fmt: skip
            width = units
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        x = self.layers(x)
        return x.mean(2) + x.amax(2)


class _CNN6(nn.Module):
    def __init__(self, n_mels):
        super().__init__()
        self.norm, layers, width = nn.BatchNorm1d(n_mels), [], 1
        for filters in (64, 128, 256, 512):
            layers += [
                nn.Conv2d(width, filters, 5, padding=2, bias=False),
                nn.BatchNorm2d(filters), nn.ReLU(inplace=True),
                nn.AvgPool2d(2), nn.Dropout(0.2),
            ]  # fmt: skip
            width = filters
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        x = self.norm(x.transpose(1, 2)).transpose(1, 2)[:, None]
        x = self.layers(x.contiguous(memory_format=torch.channels_last))
        x = x.mean(3)
        return x.mean(2) + x.amax(2)


def multi_format(batch=4, seconds=1.0, n_mels=80, device="cpu"):
    """A multi-format step (all negatives) from ready features."""
    parts = [_WaveformConv(), _CNN6(n_mels)]
    nets = nn.ModuleList(
        nn.Sequential(part, _mlp(512, 512, 128)) for part in parts
    )
    nets = nets.to(device)
    nets[1].to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(nets.parameters(), lr=1e-4, fused=True)
    samples = round(seconds * 16000)
    views = (
        0.1 * torch.randn(batch, 1, samples, device=device),
        torch.randn(batch, 1 + samples // 160, n_mels, device=device),
    )
    hide = torch.eye(2 * batch, dtype=torch.bool, device=device)
    pair = torch.arange(2 * batch, device=device).roll(batch)

    def step():
        z = [net(view) for net, view in zip(nets, views, strict=True)]
        z = F.normalize(torch.cat(z), dim=1)
        scores = (z @ z.T / 0.1).masked_fill(hide, -1e9)
        loss = F.cross_entropy(scores, pair)
        return updated(loss, optimizer)

    return step


def embedding(clips=32, seconds=2.0, dim=512, batched=False, device="cpu"):
    """Embeds `clips` clips from waveforms, one by one or in one batch."""
    front = LogMel().to(device)
    model = AudioCNN(dim=dim).eval()
    model = model.to(device, memory_format=torch.channels_last)
    x = torch.randn(clips, int(16000 * seconds), device=device) * 0.1

    @torch.inference_mode()
    def embed(x):
        mel = front(x).transpose(1, 2)[:, None]
        return model(mel.contiguous(memory_format=torch.channels_last))

    if batched:
        return lambda: embed(x)
    return lambda: torch.cat([embed(clip) for clip in x.split(1)])
