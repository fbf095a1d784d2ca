"""The page of the main job's speed."""

from __future__ import annotations

from _pages import Result, cell_text, source, table


def pipeline(result: Result) -> list[str]:
    """The main job against its own stack, row by row; a row that was not measured is absent."""
    lines = [
        "# The main job's speed",
        "",
        "Report 1's whole protocol in fresh processes, one after the other in alternating order, one pair a seed: by "
        "this "
        "tool's own stages (`ours-auto`: bf16 where the processor has it; `ours-float32`), by Keras on TensorFlow with "
        "ART, and by plain PyTorch with Foolbox. Version L makes the defence's examples anew each epoch, version P "
        "once. "
        "Pictures and reports are left out on all sides. A ratio is the peer's seconds over ours, the median of the "
        "pairs; *reached* needs 5 pairs. *within*: the means over the seeds differ by no more than one side's own "
        "range.",
        "",
        *source(result),
    ]
    for row, (title, columns) in PIPELINE_TABLES.items():
        entries = result["rows"].get(row, [])
        if row == "profile":
            entries = [
                {"machine": entry.get("machine"), "dtype": entry["dtype"], **part}
                for entry in entries
                for part in entry["operators"]
            ]
        if entries:
            cells = [[cell_text(entry.get(column)) for column in columns] for entry in entries]
            lines += [
                f"## {title}",
                "",
                *PIPELINE_NOTES.get(row, ()),
                *table([c.replace("_", " ") for c in columns], cells),
            ]
    return lines


RATIO = ("ratio", "cpu_ratio", "pairs", "ours_seconds", "peer_seconds", "target", "reached")
MEANS = ("n", "seeds", "ours_mean", "ours_lowest", "peer_mean", "peer_lowest", "difference", "spread", "within")
PIPELINE_TABLES: dict[str, tuple[str, tuple[str, ...]]] = {
    "ratios": ("From start to end", ("version", "peer", "side", *RATIO)),
    "accuracies": ("The same figures", ("version", "peer", "side", "figure", *MEANS)),
    "end-to-end": ("Every process", ("machine", "version", "seed", "side", "seconds", "cpu_seconds", "peak_gib",
                                     "load_before", "commit")),
    "step": ("One training step beside its matrix products",
             ("machine", "dtype", "threads", "step_ms", "shapes_ms", "ratio_to_shapes", "large_ms", "ratio_to_large",
              "target", "pairs", "commit")),
    "profile": ("Where a step's time goes", ("machine", "dtype", "operator", "share", "ms_a_step", "calls_a_step")),
    "setup": ("Before the work", ("what", "command", "seconds", "bound_seconds", "environment_seconds",
                                  "data_seconds", "training_share", "other_stages_share", "no_stage_share")),
    "cost-lines": ("How cost grows: straight lines", ("work", "axis", "against", "what", "slope", "intercept",
                                                      "r_squared", "largest_deviation_percent")),
    "cost": ("How cost grows: the points", ("work", "axis", "value", "x", "seconds", "peak_mib")),
    "workers": ("Two cores together or apart",
                ("work", "busy_neighbour", "together_seconds", "apart_seconds", "ratio", "pairs", "supports")),
}  # fmt: skip
PIPELINE_NOTES: dict[str, tuple[str, ...]] = {
    "step": ("*shapes*: the step's products (forward, gradients of weights and inputs, convolutions by im2col) in "
             "their own shapes; *large*: as many multiply-adds at the rate of the library's fastest large product. "
             "Batches of 128, the tool's own loop.", ""),
    "profile": ("Shares in percent of the main thread's own time, every batch in one part. `fill_` is the gradient of "
                "the first pooling being cleared in memory that is in no cache: alone it costs almost nothing.", ""),
    "cost": ("One fresh process a point; peak memory is that of the work, after loading.", ""),
    "cost-lines": ("`fast` on images that stay robust: the most it can cost. Deviations are in percent of the "
    "largest "
                   "value; R² says little where a value hardly changes.", ""),
    "workers": ("`train`, `pgd`: one process of two threads (*together*) against two of one thread (*apart*). "
                "`replicas`: in one process, both threads on every whole batch against each on its half; trainings of "
                "the built-in networks do the latter by default. The same number of steps in all; the busy neighbour "
                "is one process that never waits. A ratio is the median over the pairs of seconds together over "
                "seconds apart, so it is not the quotient of the two medians.", ""),
}  # fmt: skip
