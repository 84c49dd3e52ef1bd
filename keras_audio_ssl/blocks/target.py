"""The slowly moving copy of a network that BYOL-like methods predict."""

from typing import Any

import keras
from keras import ops

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.engine import Layer


class TargetNetwork(Layer):
    """A copy of a network that gets no gradient and follows it by averages.

    Its variables, not its layers, are untrainable: a batch norm of a frozen
    layer would leave its batch statistics even in training, which BYOL
    needs. Setting `trainable` on it or on a model around it has no effect.

    Args:
        network: Layer with all weights built, whose config rebuilds it.

    Reference:
        Grill et al., 2020, "Bootstrap your own latent", arXiv 2006.07733.
    """

    def __init__(self, network: keras.layers.Layer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.network = network.__class__.from_config(network.get_config())
        # Through numpy: a shared buffer fails on JAX when it is donated.
        self.network.set_weights(network.get_weights())
        self._freeze()

    def call(self, *args: Tensor, **kwargs: Any) -> Tensor:
        outputs = self.network(*args, **kwargs)
        return keras.tree.map_structure(ops.stop_gradient, outputs)

    def toward(
        self, online: keras.layers.Layer, momentum: float
    ) -> list[tuple[Any, Any]]:
        """Moves of the averages: `momentum * target + (1 - m) * online`.

        Args:
            online: The network that this is a copy of.
            momentum: Share of the old value that stays (tau), a float or a
                scalar tensor.

        Returns:
            Pairs (variable, new value) for each weight that `online` trains;
            moving statistics are the target's own.

        Raises:
            ValueError: `online` has other weights than the copy.
        """
        targets = self.network.weights
        if [v.shape for v in targets] != [v.shape for v in online.weights]:
            raise ValueError(
                f"{online.name} is not the network that this one copied: "
                f"{len(online.weights)} and {len(targets)} weights, or "
                "other shapes."
            )
        trained = {id(v) for v in online.trainable_variables}
        return [
            (
                target,
                momentum * ops.cast(target.value, "float32")
                + (1.0 - momentum) * ops.cast(source.value, "float32"),
            )
            for target, source in zip(targets, online.weights, strict=True)
            # Moving statistics of a batch norm are its own.
            if id(source) in trained
        ]

    def _freeze(self) -> None:
        for variable in self.network.weights:
            variable.trainable = False

    @property
    def trainable(self) -> bool:
        return True

    @trainable.setter
    def trainable(self, value: bool) -> None:
        if hasattr(self, "network"):
            self._freeze()


class ProjectedBackbone(Layer):
    """Backbone and projector: what BYOL's target network copies.

    Args:
        backbone: `Backbone`.
        projector: Layer on the clip vector.

    Returns:
        `(clip (batch, dim), projection (batch, projection_dim))`.
    """

    def __init__(
        self,
        backbone: keras.layers.Layer,
        projector: keras.layers.Layer,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)

    def call(
        self, features: Tensor, training: bool | None = None
    ) -> tuple[Tensor, Tensor]:
        clip = self.backbone(features, training=training)["clip"]
        return clip, self.projector(clip, training=training)
