"""Which clip comes where: a function of seed, epoch and step, and no more."""

import dataclasses
from collections.abc import Iterator

import numpy as np

# What the random numbers of (seed, epoch) are for: apart in Philox' counter.
ORDER, CROPS, SPARES = range(3)
BLOCK = 4  # 64-bit numbers Philox makes for one value of its counter


@dataclasses.dataclass(frozen=True)
class Order:
    """The places of an epoch, and what comes at each of them.

    Args:
        clips: How many there are, of all shards.
        batch_size: Clips in a batch.
        seed: A whole number; all random choices derive from it.
        shuffle: Whether each epoch has another order.
        drop_last: Whether the last incomplete batch is left out.
        shard: `(index, count)`: this host's part of each epoch.
        crops_per_clip: How often a clip comes in an epoch.

    Example:
        >>> order = Order(clips=10, batch_size=4, shuffle=False)
        >>> order.steps, order.of(0)[order.positions(1)]
        (2, array([4, 5, 6, 7], dtype=int32))
    """

    clips: int
    batch_size: int
    seed: int = 0
    shuffle: bool = True
    drop_last: bool = True
    shard: tuple[int, int] = (0, 1)
    crops_per_clip: int = 1

    @property
    def total(self) -> int:
        """Places of an epoch, of all shards."""
        return self.clips * self.crops_per_clip

    @property
    def steps(self) -> int:
        """Steps of an epoch, the same for all shards."""
        size = self.batch_size * self.shard[1]
        return self.total // size if self.drop_last else -(-self.total // size)

    def positions(self, step: int) -> np.ndarray:
        """The places of a batch in its epoch, int `(batch,)`."""
        index, count = self.shard
        first = step * self.batch_size * count + index
        places = first + count * np.arange(self.batch_size)
        places = places[places < self.total]
        return places if len(places) else np.array([index % self.total])

    def of(self, epoch: int) -> np.ndarray:
        """The clip at each place of an epoch, int `(total,)`."""
        order = np.arange(self.total)
        if self.shuffle:
            draws = self._draw((0, 0, 0, ORDER), epoch, self.total)
            order = np.argsort(draws, kind="stable")
        order //= self.crops_per_clip
        return order.astype("int32") if self.total < 2**31 else order

    def chances(self, epoch: int, positions: np.ndarray) -> np.ndarray:
        """Where in a clip to crop, if at random.

        Args:
            epoch: The epoch.
            positions: Places in it, rising, int `(places,)`.

        Returns:
            In [0, 1), float64 `(places,)`.
        """
        # One block of numbers for each position, all positions apart.
        first = int(positions[0])
        size = BLOCK * (int(positions[-1]) - first + 1)
        draws = self._draw((first, 0, 0, CROPS), epoch, size)
        return (draws[BLOCK * (positions - first)] >> np.uint64(11)) / 2**53

    def spares(self, epoch: int, position: int) -> Iterator[int]:
        """Clips to try instead: some at random, then one after the other."""
        draws = self._draw((0, position, 0, SPARES), epoch, 32)
        yield from (int(draw % self.clips) for draw in draws)
        first = int(draws[-1] % self.clips)
        yield from ((first + k) % self.clips for k in range(1, self.clips))

    def _draw(
        self, counter: tuple[int, ...], epoch: int, count: int
    ) -> np.ndarray:
        """Random integers, uint64 `(count,)`, the same in every version."""
        key = np.array([self.seed, epoch], "uint64")
        at = np.array(counter, "uint64")
        return np.random.Philox(key=key, counter=at).random_raw(count)
