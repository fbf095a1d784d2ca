"""One training step of report 1's network beside the time that its matrix products take alone."""

from __future__ import annotations

import functools
import statistics
import time
from typing import TYPE_CHECKING, Any

import torch
from _package import (
    TRAINING_REPLICAS,
    Dataset,
    TrainingPlan,
    build_network,
    configure,
    constant,
    generator,
    load_mnist,
    natural,
    sample_n,
    train,
)
from _products import Product, multiply_adds, step_products
from torch.profiler import ProfilerActivity, profile

if TYPE_CHECKING:
    from pipeline import Bench

BATCH = 128
LARGE = (1024, 2048)  # square products, of which the faster gives the library's rate
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
LEAST_SECONDS = 0.1  # a product is repeated until its repetitions take that long
OPERATORS = 20


def seconds_of(m: int, k: int, n: int, dtype: torch.dtype) -> float:
    """Seconds of one product by the library, warmed up."""
    draws = generator(0, "product", m, k, n)
    a, b = torch.randn(m, k, generator=draws).to(dtype), torch.randn(k, n, generator=draws).to(dtype)
    out = a @ b
    times, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < LEAST_SECONDS:
        torch.mm(a, b, out=out)
        times += 1
    return spent / times


def ceiling(products: list[Product], dtype: torch.dtype) -> dict[str, float]:
    """Milliseconds of the products in their own shapes, and at the rate of the library's fastest large product."""
    shapes = sum(seconds_of(product.m, product.k, product.n, dtype) for product in products)
    rate = max(size**3 / seconds_of(size, size, size, dtype) for size in LARGE)
    return {"shapes_ms": 1e3 * shapes, "large_ms": 1e3 * multiply_adds(products) / rate, "gmacs": rate / 1e9}


def trained(dataset: Dataset, dtype: torch.dtype, epochs: int, replicas: int = TRAINING_REPLICAS) -> float:
    """Seconds of the last of `epochs` epochs, by the tool's own loop, and the network it leaves is dropped."""
    network = build_network("report1-cnn", generator=generator(0, "step"))
    plan = TrainingPlan(
        epochs=epochs, batch_size=BATCH, schedule=constant(1e-3), seed=0, adam_epsilon=1e-7, dtype=dtype,
        replicas=replicas,
    )  # fmt: skip
    return train(network, dataset, method=natural, plan=plan).history["seconds"][-1]


def step_beside_ceiling(dataset: Dataset, dtype: torch.dtype, pairs: int) -> dict[str, Any]:
    """Medians over pairs of one ceiling and one epoch of steps."""
    products, steps = step_products(BATCH), len(dataset) // BATCH
    trained(dataset, dtype, 1)
    measured = [(trained(dataset, dtype, 1) / steps * 1e3, ceiling(products, dtype)) for _ in range(pairs)]

    def median(values: list[float]) -> float:
        return round(statistics.median(values), 3)

    return {
        "batch": BATCH,
        "steps": steps,
        "pairs": pairs,
        "threads": torch.get_num_threads(),
        "mega_multiply_adds": round(multiply_adds(products) / 1e6, 1),
        "step_ms": median([step for step, _ in measured]),
        "shapes_ms": median([top["shapes_ms"] for _, top in measured]),
        "large_ms": median([top["large_ms"] for _, top in measured]),
        "large_giga_multiply_adds_a_second": median([top["gmacs"] for _, top in measured]),
        "ratio_to_shapes": median([step / top["shapes_ms"] for step, top in measured]),
        "ratio_to_large": median([step / top["large_ms"] for step, top in measured]),
        "target": 4.0,
    }


def by_operator(dataset: Dataset, dtype: torch.dtype) -> dict[str, Any]:
    """Shares of the main thread's own time by operator, over one epoch in one part: the profiler sees one thread."""
    trained(dataset, dtype, 1, replicas=1)
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        trained(dataset, dtype, 1, replicas=1)
    steps = len(dataset) // BATCH
    found = [(entry.self_cpu_time_total, entry.key, entry.count) for entry in recorded.key_averages()]
    whole = sum(spent for spent, _, _ in found)
    table = [
        {"operator": name, "share": round(100 * spent / whole, 2), "ms_a_step": round(spent / steps / 1e3, 3),
         "calls_a_step": round(count / steps, 1)}
        for spent, name, count in sorted(found, reverse=True)[:OPERATORS]
    ]  # fmt: skip
    return {"operators": table, "rest_share": round(100 - sum(row["share"] for row in table), 2)}


def measure(bench: Bench) -> None:
    """Both precisions, whatever units the processor has."""
    configure("auto")
    steps = 4 if bench.arguments.small else 100
    dataset = sample_n(load_mnist("train"), steps * BATCH, 0)
    for name, dtype in DTYPES.items():
        pairs = bench.arguments.pairs
        key = {"dtype": name, "steps": steps}
        bench.measure("step", {**key, "pairs": pairs}, functools.partial(step_beside_ceiling, dataset, dtype, pairs))
        bench.measure("profile", key, functools.partial(by_operator, dataset, dtype))
