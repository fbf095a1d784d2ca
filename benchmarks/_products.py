"""The matrix products of a training step of report 1's network, or of one as large in another image or width."""

from __future__ import annotations

from dataclasses import dataclass

KERNEL = 3
POOL = 2
CLASSES = 10


@dataclass(frozen=True, slots=True)
class Product:
    """(m, k) times (k, n)."""

    layer: str
    kind: str
    m: int
    k: int
    n: int

    @property
    def multiply_adds(self) -> int:
        """M * k * n."""
        return self.m * self.k * self.n


@dataclass(frozen=True, slots=True)
class Size:
    """A network of report 1's form; 28 and 1.0 are its own image side and width."""

    side: int = 28
    width: float = 1.0

    @property
    def channels(self) -> tuple[int, int]:
        """Of the two convolutions."""
        return round(32 * self.width), round(64 * self.width)

    @property
    def hidden(self) -> int:
        """Units of the hidden layer."""
        return round(128 * self.width)

    @property
    def maps(self) -> tuple[int, int, int]:
        """Side after the first convolution, after the second, and after the last pooling."""
        first = self.side - KERNEL + 1
        second = first // POOL - KERNEL + 1
        return first, second, second // POOL


def step_products(batch: int, size: Size = Size()) -> list[Product]:  # a frozen value
    """Forward, the gradient of the weights and that of the input of every layer, convolutions by im2col.

    The first layer's input is the image: training needs no gradient of it.
    """
    (c1, c2), (first, second, last) = size.channels, size.maps
    layers = (
        ("conv1", batch * first**2, KERNEL**2, c1),
        ("conv2", batch * second**2, KERNEL**2 * c1, c2),
        ("dense1", batch, last**2 * c2, size.hidden),
        ("dense2", batch, size.hidden, CLASSES),
    )
    products = []
    for layer, rows, inner, outputs in layers:
        products.append(Product(layer, "forward", rows, inner, outputs))
        products.append(Product(layer, "weights", inner, rows, outputs))
        if layer != "conv1":
            products.append(Product(layer, "input", rows, outputs, inner))
    return products


def multiply_adds(products: list[Product]) -> int:
    """Of all of them."""
    return sum(product.multiply_adds for product in products)
