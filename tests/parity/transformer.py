"""What the transformers of s3prl have in common, golden array by array.

Tolerances: hidden and prediction 2e-5 absolute at valid frames, attention
1e-5, loss 1e-5 relative, gradients 2e-4 of each array's largest entry.
"""

import numpy as np
import pytest
from keras import ops

from keras_audio_ssl.augment import ChannelAlteration
from keras_audio_ssl.augment import TimeAlteration
from keras_audio_ssl.blocks import sinusoids
from keras_audio_ssl.features import LogSpectrum
from keras_audio_ssl.features import recipe
from keras_audio_ssl.hub import import_checkpoint
from keras_audio_ssl.hub.foreign.transformer import head_rules
from keras_audio_ssl.hub.foreign.transformer import rules
from keras_audio_ssl.losses import masked_mse
from tests.gradients import gradients
from tests.gradients import numpy

DICE = {"zero": 0, "random": 1, "keep": 2}


class Importing:
    """Stands for a checkpoint where rules alone are wanted."""

    def __init__(self, names):
        self.names = set(names)

    def __contains__(self, name):
        return name in self.names


class TransformerParity:
    METHOD: str

    @pytest.fixture
    def model(self, golden, tmp_path):
        """The golden model, through the importer."""
        weights = golden.group("sd")
        path = tmp_path / "weights.npz"
        np.savez(path, **weights)
        model, self.report = import_checkpoint(
            f"{self.METHOD}_s3prl",
            path,
            whole=True,
            heads=golden.config["heads"],
            frontend=recipe(
                self.METHOD, n_mels=golden["in/features"].shape[-1]
            ),
            target=self.target(golden),
        )
        return model

    def target(self, golden):
        bins = golden["in/spec_target"].shape[-1]
        if bins == golden["in/features"].shape[-1]:
            return None
        return LogSpectrum(n_fft=2 * (bins - 1), win_length=None)

    def lengths(self, golden):
        return golden["in/lengths"].astype("int32")

    def valid(self, golden):
        frames = golden["in/features"].shape[1]
        return np.arange(frames) < self.lengths(golden)[:, None]

    def levels(self, golden, model, key, **kwargs):
        return model.encoder.backbone(
            golden[key], lengths=self.lengths(golden), **kwargs
        )

    def outputs(self, golden, model):
        prediction = model.reconstruct(
            ops.convert_to_tensor(golden["in/spec_masked"]),
            ops.convert_to_tensor(self.lengths(golden)),
        )
        return {
            "prediction": prediction,
            "target": ops.convert_to_tensor(golden["in/spec_target"]),
            "label": ops.convert_to_tensor(golden["in/mask_label"]),
        }

    def test_the_importer_reads_the_sizes_and_every_tensor(self, golden, model):
        backbone, config = model.encoder.backbone, golden.config
        golden.near(backbone.n_layers, config["layers"])
        assert backbone.share_layers == config["share_layer"]
        assert backbone.pre_norm == config["pre_layer_norm"]
        mapped = {entry["source"] for entry in self.report.mapped}
        assert mapped == set(golden.group("sd"))
        assert not self.report.left_over and not self.report.missing

    def test_positions(self, golden):
        frames, dim = golden["in/position_encoding"].shape
        golden.close(
            numpy(sinusoids(frames, dim)), "in/position_encoding", atol=1e-5
        )

    def test_hidden_levels(self, golden, model):
        hidden = self.levels(golden, model, "in/spec_masked")["hidden"]
        where = np.broadcast_to(self.valid(golden)[..., None], hidden[0].shape)
        for i, level in enumerate(hidden):
            golden.close(numpy(level), f"out/hidden_{i}", 2e-5, where=where)
            assert not np.any(numpy(level)[~where])
        clean = self.levels(golden, model, "in/features")["hidden"][-1]
        golden.close(numpy(clean), "out/clean_hidden_last", 2e-5, where=where)

    def test_attention(self, golden, model):
        maps = self.levels(
            golden, model, "in/spec_masked", return_attention=True
        )["attention"]
        n = self.lengths(golden)[0]
        for i, probabilities in enumerate(maps):
            if golden.has(f"out/attention_{i}"):
                got = numpy(probabilities)[0]
                want = golden[f"out/attention_{i}"]
                golden.near(got[:, :n, :n], want[:, :n, :n], 1e-5)
                assert not got[:, n:].any() and not got[:, :, n:].any()

    def test_head_mask(self, golden, model):
        backbone = model.encoder.backbone
        config = {**backbone.get_config(), "prunable": True}
        prunable = type(backbone).from_config(config)
        mine = [w for w in prunable.weights if w is not prunable.head_mask]
        for ours, theirs in zip(mine, backbone.weights, strict=True):
            ours.assign(theirs)
        whole = numpy(prunable(golden["in/features"])["frames"])
        np.testing.assert_allclose(
            whole, numpy(backbone(golden["in/features"])["frames"]), atol=1e-6
        )
        prunable.head_mask.assign(golden["in/head_mask"])
        got = prunable(golden["in/features"], lengths=self.lengths(golden))
        where = np.broadcast_to(
            self.valid(golden)[..., None], got["frames"].shape
        )
        golden.close(
            numpy(got["frames"]), "out/headmask_hidden_last", 2e-5, where=where
        )

    def test_prediction_and_losses(self, golden, model):
        outputs = self.outputs(golden, model)
        prediction = numpy(outputs["prediction"])
        where = np.broadcast_to(self.valid(golden)[..., None], prediction.shape)
        golden.close(prediction, "out/prediction", 2e-5, where=where)
        loss = numpy(model.pretext_loss(outputs, None))
        golden.close(loss, "out/loss_l1", rtol=1e-5)
        model.distance = "mse"
        loss = numpy(model.pretext_loss(outputs, None))
        golden.close(loss, "out/loss_mse", rtol=1e-5)
        got = masked_mse(
            outputs["prediction"], outputs["target"], outputs["label"]
        )
        assert numpy(got) == loss

    def test_head_state(self, golden, model):
        read = self.levels(golden, model, "in/spec_masked")["hidden"][-1]
        state = numpy(model.head.norm(model.head.hidden(read)))
        where = np.broadcast_to(self.valid(golden)[..., None], state.shape)
        golden.close(state, "out/head_state", 2e-5, where=where)

    def test_gradients(self, golden, model):
        grads = golden.group("grad")
        if not grads:
            pytest.skip("the folder holds no gradients")
        backbone, root = model.encoder.backbone, "Transformer."
        numbers = range(len(backbone.layers))
        plan = [
            *rules(
                Importing(grads),
                backbone,
                root,
                [f"{root}encoder.layer.{i}." for i in numbers],
            ),
            *head_rules(model),
        ]
        loss, got = gradients(
            lambda: model.pretext_loss(self.outputs(golden, model), None),
            [rule.variable for rule in plan],
        )
        golden.close(loss, "out/loss_l1", rtol=1e-5)
        assert {rule.sources[0] for rule in plan} == set(grads)
        for rule, gradient in zip(plan, got, strict=True):
            name = rule.sources[0]
            want = rule.convert(grads[name])
            atol = 2e-4 * np.abs(want).max()
            if name.endswith("key.bias"):
                # A softmax does not see it: both are rounding errors.
                atol = (
                    1e-6 * np.abs(grads[name.replace("bias", "weight")]).max()
                )
            golden.near(gradient, want, atol, what=name)

    def test_the_altered_input_from_the_draws(self, golden):
        """Bit for bit what the reference made of the same draws."""
        x, lengths = golden["in/features"], self.lengths(golden)
        clips, frames, bins = x.shape
        span = golden.config["mask_consecutive"]
        selected = np.zeros((clips, frames), bool)
        source = np.broadcast_to(np.arange(frames), (clips, frames)).copy()
        bands = np.zeros((clips, 1, bins), bool)
        die = np.array([DICE[str(golden[f"draw/branch_{i}"])]
                        for i in range(clips)])  # fmt: skip
        for i in range(clips):
            starts = golden[f"draw/time_starts_{i}"]
            sources = starts
            if golden.has(f"draw/source_starts_{i}"):
                sources = golden[f"draw/source_starts_{i}"]
            # Later spans lie over earlier ones.
            for start, origin in zip(starts, sources, strict=True):
                selected[i, start : start + span] = True
                source[i, start : start + span] = range(origin, origin + span)
            if golden.has(f"draw/freq_start_width_{i}"):
                start, width = golden[f"draw/freq_start_width_{i}"]
                bands[i, 0, start : start + width] = True
        time, channels = TimeAlteration(span=span), ChannelAlteration()
        altered = time.apply(
            *(ops.convert_to_tensor(a)
              for a in (x, selected, source.astype("int32"), die))
        )  # fmt: skip
        altered = numpy(channels.apply(altered, ops.convert_to_tensor(bands)))
        if golden.has("draw/noise"):
            altered = altered + golden["draw/noise"]
        golden.near(altered, golden["in/spec_masked"], what="in/spec_masked")
        valid = np.arange(frames) < lengths[:, None]
        label, want = selected[..., None], golden["in/mask_label"]
        if bands.any():
            label = label | (bands & valid[..., None])
        golden.equal(np.broadcast_to(label, want.shape), "in/mask_label")
