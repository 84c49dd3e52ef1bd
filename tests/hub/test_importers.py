"""Importers: sizes from shapes, equality with PyTorch, and their reports."""

import importlib
import json

import numpy as np
import pytest

from keras_audio_ssl.encoders import Encoder
from keras_audio_ssl.features import recipe
from keras_audio_ssl.hub import FORMATS
from keras_audio_ssl.hub import CheckpointError
from keras_audio_ssl.hub import LicenceError
from keras_audio_ssl.hub import import_checkpoint
from keras_audio_ssl.hub import load_encoder
from keras_audio_ssl.hub import save_encoder
from keras_audio_ssl.hub.foreign import contrastive
from keras_audio_ssl.hub.foreign.state_dict import bare_name
from keras_audio_ssl.methods.apc import APC
from tests.gradients import numpy


def filled(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return {
        name: rng.uniform(0.1, 1, shape).astype("float32") / 4
        for name, shape in shapes.items()
    }


def audio_ntt(bins=16, channels=3, hidden=10, dim=6, blocks=3):
    """Random weights in the layout of BYOL-A's networks."""
    shapes, width = {}, 1
    for i in range(blocks):
        shapes[f"features.{4 * i}.weight"] = (channels, width, 3, 3)
        shapes[f"features.{4 * i}.bias"] = (channels,)
        for name in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"features.{4 * i + 1}.{name}"] = (channels,)
        width = channels
    flat = channels * (bins // 2**blocks)
    shapes["fc.0.weight"], shapes["fc.0.bias"] = (hidden, flat), (hidden,)
    shapes["fc.3.weight"], shapes["fc.3.bias"] = (dim, hidden), (dim,)
    return filled(shapes)


def gru_stack(name, bins=5, units=4, layers=2):
    """Random weights of a stack of PyTorch's GRUs."""
    shapes = {}
    for i in range(layers):
        start = f"{name}.{i}."
        shapes[start + "weight_ih_l0"] = (3 * units, units if i else bins)
        shapes[start + "weight_hh_l0"] = (3 * units, units)
        shapes[start + "bias_ih_l0"] = (3 * units,)
        shapes[start + "bias_hh_l0"] = (3 * units,)
    return filled(shapes)


def official(bins=5, units=4, **sizes):
    head = {"postnet.layer.weight": (bins, units, 1)}
    head["postnet.layer.bias"] = (bins,)
    return {**gru_stack("rnns", bins, units, **sizes), **filled(head, 1)}


def quantized(groups, bins=5, units=4, layers=2):
    """VQ-APC: `groups` maps a quantiser's number to (codes, width)."""
    head = {"postnet.weight": (bins, units), "postnet.bias": (bins,)}
    for number, (codes, width) in groups.items():
        start = f"vq_layers.{number}."
        head[start + "vq_logits.weight"] = (codes, width)
        head[start + "vq_logits.bias"] = (codes,)
        head[start + "codebook_CxE.weight"] = (width, codes)
    stack = gru_stack("rnn_layers", bins, units, layers)
    return {**stack, **filled(head, 1)}


@pytest.fixture
def write(tmp_path):
    def write(arrays, name="weights"):
        path = tmp_path / f"{name}.npz"
        np.savez(path, **arrays)
        return path

    return write


def test_byol_a_files_ask_for_their_licence(write):
    for name in ("audio_ntt2020", "audio_ntt2022"):
        # Before the file is opened.
        with pytest.raises(LicenceError, match="accept_licence=True"):
            import_checkpoint(name, "not-there.pth")
        assert "evaluation" in FORMATS[name].licence
    path = write(audio_ntt())
    encoder, report = import_checkpoint(
        "audio_ntt2020", path, accept_licence=True
    )
    assert isinstance(encoder, Encoder)
    assert "no distribution" in str(report)


@pytest.mark.parametrize(
    "name, sizes",
    [
        ("audio_ntt2020", {"bins": 24, "channels": 5, "hidden": 11, "dim": 7}),
        ("audio_ntt2022", {"bins": 12, "channels": 5, "blocks": 2}),
        ("byol_s", {}),
    ],
)
def test_audio_ntt_equals_pytorch(write, name, sizes):
    torch = pytest.importorskip("torch")
    arrays = audio_ntt(**sizes)
    encoder, report = import_checkpoint(
        name, write(arrays), accept_licence=True, mean=-5.0, std=4.0
    )
    assert len(report.mapped) == len(arrays)
    bins = sizes.get("bins", 16)
    assert encoder.frontend.n_features == bins
    x = np.random.default_rng(1).normal(size=(2, 19, bins)).astype("float32")
    weights = {k: torch.tensor(v) for k, v in arrays.items()}
    maps = torch.tensor(x.transpose(0, 2, 1)[:, None])
    for i in range(sizes.get("blocks", 3)):
        conv, norm = f"features.{4 * i}.", f"features.{4 * i + 1}."
        maps = torch.nn.functional.conv2d(
            maps, weights[conv + "weight"], weights[conv + "bias"], padding=1
        )
        maps = torch.nn.functional.batch_norm(
            maps,
            *(
                weights[norm + part]
                for part in ("running_mean", "running_var", "weight", "bias")
            ),
        )
        maps = torch.nn.functional.max_pool2d(torch.relu(maps), 2)
    flat = maps.permute(0, 3, 2, 1).flatten(2)
    out = flat
    for part in ("fc.0.", "fc.3."):
        out = torch.relu(
            out @ weights[part + "weight"].T + weights[part + "bias"]
        )
    if "blocks" in sizes:
        out = torch.cat([flat, out], dim=-1)
    clip = out.mean(1) + out.amax(1)
    got = encoder.backbone(x)
    np.testing.assert_allclose(numpy(got["frames"]), out.numpy(), rtol=1e-5)
    np.testing.assert_allclose(numpy(got["clip"]), clip.numpy(), rtol=1e-5)


@pytest.mark.parametrize("prenet", [0, 2])
def test_apc_equals_pytorch(write, prenet):
    torch = pytest.importorskip("torch")
    bins, units, layers = 7, 6, 4
    width = units if prenet else bins
    arrays = gru_stack("rnns", width, units, layers)
    for i in range(prenet):
        shape = (units, units if i else bins)
        arrays |= filled({f"prenet.layers.{i}.weight": shape}, 2)
        arrays |= filled({f"prenet.layers.{i}.bias": (units,)}, 3)
    head = {"postnet.layer.weight": (bins, units, 1)}
    arrays |= filled({**head, "postnet.layer.bias": (bins,)}, 4)
    model, report = import_checkpoint(
        "apc_official", write(arrays), whole=True, n_future=2
    )
    assert isinstance(model, APC) and not report.left_over
    assert report.settings["layers"] == layers
    assert report.settings["prenet_layers"] == prenet
    x = np.random.default_rng(1).normal(size=(2, 9, bins)).astype("float32")
    out = torch.tensor(x)
    with torch.no_grad():
        for i in range(prenet):
            part = f"prenet.layers.{i}."
            weight, bias = arrays[part + "weight"], arrays[part + "bias"]
            out = torch.relu(out @ torch.tensor(weight).T + torch.tensor(bias))
        for i in range(layers):
            layer = torch.nn.GRU(out.shape[-1], units, batch_first=True)
            start = f"rnns.{i}."
            layer.load_state_dict(
                {k: torch.tensor(arrays[start + k]) for k in layer.state_dict()}
            )
            after = layer(out)[0]
            out = after + out if out.shape[-1] == units else after
    got = numpy(model.encoder.backbone(x)["frames"])
    np.testing.assert_allclose(got, out.numpy(), atol=1e-5)


def test_groups_and_layers_of_quantisers(write):
    groups = quantized({0: (6, 3), 1: (9, 1)})
    model, report = import_checkpoint("apc_s3prl", write(groups), whole=True)
    assert model.codebooks == [6, 9] and model.codebook_dims == [3, 1]
    assert report.settings["n_future"] == 5
    # The authors number quantisers by layer: here the last of two.
    last = quantized({1: (6, 4)})
    model, report = import_checkpoint("apc_official", write(last), whole=True)
    assert model.codebooks == [6]
    assert not model.encoder.backbone.residual_first
    logits = last["vq_layers.1.vq_logits.weight"]
    np.testing.assert_array_equal(
        numpy(model.quantizer.logits[0].kernel), logits.T
    )
    with pytest.raises(CheckpointError, match=r"after layers \[0\] of 2"):
        import_checkpoint("apc_official", write(quantized({0: (6, 4)})))


def test_quantisers_with_a_hidden_layer(write):
    arrays = quantized({1: (6, 4)})
    arrays |= filled({"vq_layers.1.vq_hiddens.weight": (8, 4)})
    arrays |= filled({"vq_layers.1.vq_hiddens.bias": (8,)})
    arrays |= filled({"vq_layers.1.vq_logits.weight": (6, 8)})
    path = write(arrays)
    encoder, _ = import_checkpoint("apc_official", path)
    assert encoder.dim == 4
    with pytest.raises(CheckpointError, match="hidden layer"):
        import_checkpoint("apc_official", path, whole=True)


def test_encoder_alone_says_what_is_left_over(write):
    encoder, report = import_checkpoint("apc_official", write(official()))
    assert encoder.frontend.normalize == "utterance_mean"
    left = {entry["source"]: entry["reason"] for entry in report.left_over}
    assert set(left) == {"postnet.layer.weight", "postnet.layer.bias"}
    assert all("pretext task" in reason for reason in left.values())
    assert not report.unexplained


def test_prefixes_are_stripped(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "a.pth"
    for wrap in ("module.", "model.", "module.model.body.", ""):
        state = {wrap + k: torch.tensor(v) for k, v in audio_ntt().items()}
        for tree in (state, {"state_dict": state}, {"model": state, "step": 3}):
            torch.save(tree, path)
            _, report = import_checkpoint("byol_s", path)
            assert len(report.mapped) == len(state)
    assert bare_name("module.model.features.0.weight") == "features.0.weight"
    assert bare_name("model") == "model"


def test_networks_of_one_file_are_told_apart_by_prefix(write):
    two = audio_ntt()
    arrays = {f"model.{k}": v for k, v in two.items()}
    arrays |= {f"module.{k}": v + 1 for k, v in two.items()}
    path = write(arrays)
    with pytest.raises(CheckpointError, match="say which with `prefix`"):
        import_checkpoint("byol_s", path)
    with pytest.warns(UserWarning, match=f"{len(two)} tensors were left over"):
        encoder, report = import_checkpoint("byol_s", path, prefix="module.")
    want = two["features.0.bias"] + 1
    got = numpy(encoder.backbone.blocks[0].conv.bias)
    np.testing.assert_array_equal(got, want)
    assert sorted(report.unexplained) == sorted(f"model.{k}" for k in two)


def test_left_over_tensors_warn_and_counters_do_not(write):
    arrays = audio_ntt() | {"features.1.num_batches_tracked": np.array(3)}
    _, report = import_checkpoint("byol_s", write(arrays))
    assert report.left_over[0]["reason"].startswith("counts batches")
    arrays["extra"] = np.ones(2)
    with pytest.warns(UserWarning, match="1 tensors were left over: extra"):
        import_checkpoint("byol_s", write(arrays))


def test_missing_and_misshaped_tensors_are_named(write):
    arrays = audio_ntt()
    del arrays["features.4.bias"]
    arrays["fc.0.bias"] = np.ones(3, "float32")
    with pytest.raises(CheckpointError) as caught:
        import_checkpoint("byol_s", write(arrays))
    assert "features.4.bias (3,)" in str(caught.value)
    assert "fc.0.bias (10,) (has (3,))" in str(caught.value)
    missing = {e["source"]: e for e in caught.value.report.missing}
    assert missing["features.4.bias"]["found"] is None
    assert missing["fc.0.bias"]["found"] == [3]
    with pytest.raises(CheckpointError, match="no tensor features"):
        import_checkpoint("byol_s", write(official()))
    with pytest.raises(CheckpointError, match="no tensor rnn_layers"):
        import_checkpoint("apc_s3prl", write(official()))


def test_wrong_ranks_and_values_are_refused(write):
    arrays = audio_ntt()
    arrays["fc.0.weight"] = arrays["fc.0.weight"][0]
    with pytest.raises(CheckpointError, match="not 2 axes"):
        import_checkpoint("byol_s", write(arrays))
    arrays = audio_ntt()
    arrays["fc.0.bias"][0] = np.nan
    with pytest.raises(CheckpointError, match="NaN"):
        import_checkpoint("byol_s", write(arrays))


def test_versions_are_not_confused(write):
    with pytest.raises(CheckpointError, match="audio_ntt2020"):
        import_checkpoint(
            "audio_ntt2022", write(audio_ntt()), accept_licence=True
        )
    with pytest.raises(CheckpointError, match=r"features\.8\.weight"):
        import_checkpoint("byol_s", write(audio_ntt(blocks=2)))


def test_s3prl_without_residual_connections_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    state = {k: torch.tensor(v) for k, v in quantized({}).items()}
    path = tmp_path / "a.ckpt"
    for residual in (True, False):
        paras = {"hidden_size": 4, "residual": residual}
        tree = {"model": state, "config": {"model": {"paras": paras}}}
        torch.save(tree, path)
        if residual:
            encoder, _ = import_checkpoint("apc_s3prl", path)
            assert encoder.frontend.normalize == "utterance"
        else:
            with pytest.raises(CheckpointError, match="no residual"):
                import_checkpoint("apc_s3prl", path)


def masked_transformer(layers=("0.",), units=4, bins=80, inner=6):
    """Random weights in s3prl's layout, with PyTorch's tensors."""
    torch = pytest.importorskip("torch")
    shapes = {}

    def both(name, *shape):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]

    both("input_representations.spec_transform", units, bins)
    both("input_representations.LayerNorm", units)
    for number in layers:
        layer = f"encoder.layer.{number}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            both(f"{layer}attention.{part}", units, units)
        both(f"{layer}intermediate.dense", inner, units)
        both(f"{layer}output.dense", units, inner)
        both(f"{layer}attention.output.LayerNorm", units)
        both(f"{layer}output.LayerNorm", units)
    return {k: torch.tensor(v) for k, v in filled(shapes).items()}


def masked_convolutions(blocks=2, units=4, bins=6):
    """Random weights in the layout of NPC, with PyTorch's tensors."""
    torch = pytest.importorskip("torch")
    shapes = {}
    for i in range(blocks):
        for name, *shape in (
            (f"blocks.{i}.conv", units, units if i else bins, 3),
            (f"blocks.{i}.linear", units, units, 1),
            (f"masked_convs.{i}.conv", units, units, 15),
        ):
            shapes[f"{name}.weight"] = tuple(shape)
            shapes[f"{name}.bias"] = tuple(shape[:1])
    return {k: torch.tensor(v) for k, v in filled(shapes).items()}


NONSENSE = ([], None, {"a": 1}, "x", True, -1, 0.5, 10**12, 1e30, float("inf"))


@pytest.mark.parametrize(
    "format, section, name",
    [
        ("audio_albert_s3prl", "transformer", "num_hidden_layers"),
        ("mockingjay_s3prl", "transformer", "num_attention_heads"),
        ("mockingjay_s3prl", "transformer", "hidden_dropout_prob"),
        ("mockingjay_s3prl", "transformer", "hidden_act"),
        ("mockingjay_s3prl", "audio", "kaldi"),
        ("mockingjay_s3prl", "audio", "input"),
        ("mockingjay_s3prl", "task", "mask_consecutive"),
        ("mockingjay_s3prl", "task", "mask_proportion"),
        ("mockingjay_s3prl", "task", "loss"),
        ("npc_s3prl", "paras", "mask_size"),
        ("npc_s3prl", "paras", "dropout"),
        ("npc_s3prl", "paras", "activate"),
    ],
)
def test_settings_of_a_file_are_no_nonsense(format, section, name, tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "a.ckpt"
    layers = ("",) if format == "audio_albert_s3prl" else ("0.",)

    def bring(**given):
        if format == "npc_s3prl":
            tree = {"model": masked_convolutions(),
                    "config": {"model": {"paras": given}}}  # fmt: skip
        else:
            config = {"transformer": {"num_attention_heads": 2}}
            config[section] = {**config.get(section, {}), **given}
            tree = {"Transformer": masked_transformer(layers),
                    "Settings": {"Config": config}}  # fmt: skip
        torch.save(tree, path)
        return import_checkpoint(format, path)[0]

    bring()
    words = name in ("hidden_act", "activate", "loss")
    # A share may be a half; what is no span is none.
    fine = [0.5] if name.endswith(("prob", "dropout", "proportion")) else []
    fine += [None] if name == "mask_consecutive" else []
    for value in NONSENSE:
        if value in fine or (words and isinstance(value, str)):
            continue
        given = {
            "kaldi": {"delta": {"order": value}},
            "input": {"delta": value},
        }.get(name, value)
        with pytest.raises(CheckpointError, match="its setting") as caught:
            bring(**{name: given})
        assert str(path) in str(caught.value)
    # YAML makes text of some numbers.
    if fine == [0.5]:
        bring(**{name: "1e-1"})


def test_layers_that_are_not_shared_are_all_there(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "a.ckpt"
    tree = {
        "Transformer": masked_transformer(("",)),
        "Settings": {"Config": {"transformer": {"num_attention_heads": 2}}},
    }
    torch.save(tree, path)
    with pytest.raises(CheckpointError, match="6 layers, and holds one"):
        import_checkpoint("mockingjay_s3prl", path)


@pytest.mark.parametrize("format", ["clar_official", "fonseca_official"])
def test_nothing_is_built_of_a_resnet_that_is_not_whole(
    format, write, monkeypatch
):
    def build(*args, **kwargs):
        raise AssertionError("built")

    for name in ("ResNet18", "WaveformResNet18"):
        monkeypatch.setattr(contrastive, name, build)
    firsts = [(7, 7)] if format == "fonseca_official" else [(7, 7), (7,)]
    for first in firsts:
        whole = resnet(first)
        with pytest.raises(AssertionError, match="built"):
            import_checkpoint(format, write(whole))
        for name in ("layer2.0.downsample.0.weight", "layer4.1.bn2.bias"):
            missing = {k: v for k, v in whole.items() if k != name}
            with pytest.raises(CheckpointError) as caught:
                import_checkpoint(format, write(missing))
            assert name in str(caught.value)
            other = {**whole, name: whole[name][..., None]}
            with pytest.raises(CheckpointError, match="another shape"):
                import_checkpoint(format, write(other))


def test_more_layers_than_any_network_has_are_refused(write):
    with pytest.raises(CheckpointError, match="may have 100"):
        import_checkpoint("apc_official", write(official(layers=101)))
    stages = {
        f"resnet.layer{i}.{k}.conv1.weight": np.zeros((1, 1, 3), "float32")
        for i in range(1, 13)
        for k in range(9)
    }
    with pytest.raises(CheckpointError, match="at most 100"):
        import_checkpoint("panns_res1dnet31", write(stages))


def test_settings(write):
    path = write(audio_ntt())
    encoder, report = import_checkpoint("byol_s", path)
    frontend = encoder.frontend
    assert (frontend.win_length, frontend.mel_scale) == (400, "htk")
    assert frontend.mel_norm is None and not frontend.adapted
    assert "pass the training data's" in report.notes[0]
    encoder, report = import_checkpoint(
        "byol_s", path, mean=-6.0, std=4.0, mel_scale="slaney", win_length=800
    )
    frontend = encoder.frontend
    assert frontend.adapted and frontend.mel_norm == "slaney"
    assert frontend.win_length == 800
    own = recipe("byol_a", n_mels=16, f_max=7000.0)
    encoder, _ = import_checkpoint("byol_s", path, frontend=own)
    assert encoder.frontend is own
    for settings, words in (
        ({"units": 3}, "Received: units"),
        ({"mel_scale": "bark"}, "'slaney' or 'htk'"),
        ({"frontend": own, "mean": 0.0, "std": 1.0}, "default front end"),
        ({"frontend": recipe("byol_a", n_mels=32)}, "expects 16"),
        ({"mean": -6.0}, "together"),
    ):
        with pytest.raises(ValueError, match=words):
            import_checkpoint("byol_s", path, **settings)
    with pytest.raises(ValueError, match="Unknown format 'wav2vec'"):
        import_checkpoint("wav2vec", path)


def test_report(write):
    arrays = official() | {"extra": np.ones((2, 3), "float32")}
    path = write(arrays)
    with pytest.warns(UserWarning, match="extra"):
        _, report = import_checkpoint("apc_official", path)
    tree = json.loads(json.dumps(report.to_dict()))
    assert tree["format"] == "apc_official" and tree["path"] == str(path)
    named = [e["source"] for e in tree["mapped"] + tree["left_over"]]
    assert sorted(named) == sorted(arrays)
    text = str(report)
    for entry in tree["mapped"]:
        assert f"{entry['source']} {tuple(entry['shape'])} -> " in text
    assert "extra (2, 3)" in text and "missing: 0" in text


def test_an_imported_encoder_is_saved_and_opened(write, tmp_path):
    path = write(audio_ntt())
    encoder, _ = import_checkpoint("byol_s", path, mean=-6.0, std=4.0)
    saved = save_encoder(encoder, tmp_path / "byol_s.keras")
    wave = np.random.default_rng(0).normal(size=16000).astype("float32") / 9
    again = load_encoder(saved)
    np.testing.assert_array_equal(again.embed(wave), encoder.embed(wave))


def test_every_format_has_its_function():
    for entry in FORMATS.values():
        module = importlib.import_module(
            f"keras_audio_ssl.hub.foreign.{entry.file}"
        )
        assert callable(getattr(module, entry.function))
        assert entry.licence and entry.title


def vgg(widths=(2, 2, 4), dim=5):
    """Random weights in the layout of Fonseca et al.'s VGG."""
    shapes, before = {}, 1
    for i, width in enumerate(widths):
        shapes[f"conv{i}.conv.weight"] = (width, before, 3, 3)
        for name in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"conv{i}.bn.{name}"] = (width,)
        before = width
    shapes["dense1.weight"], shapes["dense1.bias"] = (dim, 2 * before), (dim,)
    shapes["dense_out.weight"], shapes["dense_out.bias"] = (3, dim), (3,)
    return filled(shapes)


def resnet(first, channels=1, width=1):
    """Random weights in torchvision's layout, of kernels of two shapes.

    Args:
        first: Shape of the first kernel; the others have half its size, or
            nine samples.
        channels: In.
        width: Of the first stage.
    """
    shapes = {"conv1.weight": (width, channels, *first)}
    other = (9,) if len(first) == 1 else (3, 3)

    def norm(name, filters):
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = (filters,)

    norm("bn1", width)
    before = width
    for i in range(4):
        filters = width * 2**i
        for k in range(2):
            name = f"layer{i + 1}.{k}"
            shapes[f"{name}.conv1.weight"] = (filters, before, *other)
            norm(f"{name}.bn1", filters)
            shapes[f"{name}.conv2.weight"] = (filters, filters, *other)
            norm(f"{name}.bn2", filters)
            if i and not k:
                ones = (1,) * len(first)
                shapes[f"{name}.downsample.0.weight"] = (filters, before, *ones)
                norm(f"{name}.downsample.1", filters)
            before = filters
    shapes["fc.weight"], shapes["fc.bias"] = (3, before), (3,)
    return filled(shapes)


def test_fonsecas_groups_are_read_from_widths(write):
    encoder, report = import_checkpoint("fonseca_official", write(vgg()))
    backbone = encoder.backbone
    assert backbone.repeats == [2, 1] and encoder.dim == 5
    # As published: features were multiplied by this in training.
    assert backbone.input_scale == 36_000
    assert report.settings["input_scale"] == 36_000
    assert {e["reason"] for e in report.left_over} == {
        "gives classes, which are no part of the encoder"
    }
    with pytest.raises(CheckpointError, match="twice as many"):
        import_checkpoint("fonseca_official", write(vgg((2, 3))))
    with pytest.raises(CheckpointError, match="no tensor conv1"):
        import_checkpoint("fonseca_official", write(official()))


def test_time_comes_first_in_fonsecas_kernels_and_last_in_clars(write):
    arrays = resnet((7, 7))
    ours, _ = import_checkpoint(
        "fonseca_official", write(arrays), input_scale=1.0
    )
    theirs, _ = import_checkpoint("clar_official", write(arrays))
    kernel = arrays["conv1.weight"][0, 0]
    for encoder, want in ((ours, kernel), (theirs, kernel.T)):
        got = numpy(encoder.backbone.stem.conv.kernel)[:, :, 0, 0]
        np.testing.assert_array_equal(got, want)
    waveform, report = import_checkpoint("clar_official", write(resnet((7,))))
    assert type(waveform.backbone).__name__ == "WaveformResNet18"
    assert waveform.embed(np.zeros(400, "float32")).shape == (8,)
    assert report.settings["width"] == 1


def norm_shapes(name, channels):
    parts = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": (channels,) for part in parts}


def panns_cnn(bins=16, filters=(3, 4), convs=2, kernel_size=3):
    """Random weights in the layout of CNN14 (or CNN6: one convolution)."""
    shapes, width = norm_shapes("bn0", bins), 1
    for i, channels in enumerate(filters, 1):
        for j in range(1, convs + 1):
            shape = (channels, width, kernel_size, kernel_size)
            shapes[f"conv_block{i}.conv{j}.weight"] = shape
            shapes |= norm_shapes(f"conv_block{i}.bn{j}", channels)
            width = channels
    shapes["fc1.weight"], shapes["fc1.bias"] = (width, width), (width,)
    shapes["fc_audioset.weight"] = (7, width)
    shapes["logmel_extractor.melW"] = (513, bins)
    return filled(shapes)


@pytest.mark.parametrize(
    "name, sizes",
    [("panns_cnn14", {}), ("panns_cnn6", {"convs": 1, "kernel_size": 5})],
)
def test_panns_on_log_mels_equal_pytorch(write, name, sizes):
    torch = pytest.importorskip("torch")
    arrays = panns_cnn(**sizes)
    encoder, report = import_checkpoint(name, write(arrays))
    left = {e["source"]: e["reason"] for e in report.left_over}
    assert set(left) == {"fc_audioset.weight", "logmel_extractor.melW"}
    assert all(left.values()) and encoder.sample_rate == 32000
    assert report.settings["filters"] == [3, 4]
    x = np.random.default_rng(1).normal(size=(2, 22, 16)).astype("float32")
    weights = {k: torch.tensor(v) for k, v in arrays.items()}

    def norm(x, name):
        parts = ("running_mean", "running_var", "weight", "bias")
        return torch.nn.functional.batch_norm(
            x, *(weights[f"{name}.{part}"] for part in parts)
        )

    # (batch, channels, time, frequency), the bands as channels in bn0.
    maps = norm(torch.tensor(x).transpose(1, 2), "bn0").transpose(1, 2)[:, None]
    for i in (1, 2):
        for j in range(1, sizes.get("convs", 2) + 1):
            conv = f"conv_block{i}.conv{j}.weight"
            maps = torch.nn.functional.conv2d(
                maps, weights[conv], padding=sizes.get("kernel_size", 3) // 2
            )
            maps = torch.relu(norm(maps, f"conv_block{i}.bn{j}"))
        if i == 1 or name == "panns_cnn6":
            maps = torch.nn.functional.avg_pool2d(maps, 2)
    frames = maps.mean(3)
    pooled = frames.mean(2) + frames.amax(2)
    clip = torch.relu(pooled @ weights["fc1.weight"].T + weights["fc1.bias"])
    got = encoder.backbone(x)
    np.testing.assert_allclose(
        numpy(got["frames"]), frames.transpose(1, 2).numpy(), rtol=1e-4
    )
    np.testing.assert_allclose(numpy(got["clip"]), clip.numpy(), rtol=1e-4)


def test_panns_on_the_waveform(write):
    shapes = {"conv0.weight": (3, 1, 11), **norm_shapes("bn0", 3)}
    width = 3
    for i, channels in enumerate((3, 4), 1):
        for j in (0, 1):
            start = f"resnet.layer{i}.{j}."
            for k, into in ((1, width), (2, channels)):
                shapes[f"{start}conv{k}.weight"] = (channels, into, 3)
                shapes |= norm_shapes(f"{start}bn{k}", channels)
            if i == 2 and j == 0:
                shapes[start + "downsample.1.weight"] = (channels, width, 1)
                shapes |= norm_shapes(start + "downsample.2", channels)
            width = channels
    arrays = filled(shapes)
    encoder, report = import_checkpoint("panns_res1dnet31", write(arrays))
    assert not report.left_over and len(report.mapped) == len(arrays)
    # The file has no dense layer, so there is none.
    assert encoder.backbone.embedding is None and encoder.dim == 4
    assert encoder.embed(np.zeros(3200, "float32")).shape == (4,)
    assert report.settings == {"filters": [3, 4], "blocks": 2,
                               "normalize": None}  # fmt: skip


def test_sincnet_names_what_does_not_fit(write):
    sizes = {"conv.0.low_hz_": (4, 1), "conv.0.band_hz_": (4, 1),
             "ln0.gamma": (200,), "ln0.beta": (200,), "ln.0.gamma": (4, 50),
             "ln.0.beta": (4, 50)}  # fmt: skip
    arrays = {f"CNN_model_par.{k}": v for k, v in filled(sizes).items()}
    head = {"wx.0.weight": (5, 200), "wx.0.bias": (5,), "ln0.gamma": (200,),
            "ln0.beta": (200,), **norm_shapes("bn.0", 5)}  # fmt: skip
    arrays |= {f"DNN1_model_par.{k}": v for k, v in filled(head).items()}
    arrays |= filled({"DNN2_model_par.wx.0.weight": (9, 5)})
    path = write(arrays)
    # 200 - 51 + 1 samples in threes.
    encoder, report = import_checkpoint("sincnet", path, kernel_size=51)
    assert encoder.dim == 5 and not report.unexplained
    assert report.settings["chunk"] == 200
    with pytest.raises(CheckpointError, match=r"ln\.0\.gamma"):
        import_checkpoint("sincnet", path, kernel_size=31)
