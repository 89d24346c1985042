"""What torch.compile makes of Listing 1, in the tables of chapter 4: the time it adds, and whether that comes again."""

import pandas as pd

from .study import SPEED_FIELDS


def with_the_compiler(eager: pd.DataFrame, compiled: pd.DataFrame) -> pd.DataFrame:
    """What an arm adds to plain convolution without the compiler and with it, where one source has measured both.

    In milliseconds: plain convolution itself gets quicker, and its ratios have another base.

    Args:
        eager: From `cases`.
        compiled: From `cases`.

    Returns:
        A row for each such case and arm (listing, ss): source, network, memory_format, pixels, batch, arm, `eager_ms`
        and `compiled_ms` an image, from the median ratio, and with `_low` and `_high` from its quartiles.
    """
    same = ["source", *(name for name in SPEED_FIELDS if name != "compile")]
    shown = ["source", "network", "memory_format", "pixels", "batch"]
    rows = []
    both = [frame.astype({"channels": float}) for frame in (eager, compiled)]  # of networks alone they are None
    for case in both[0].merge(both[1], on=same, suffixes=("_eager", "_compiled")).to_dict("records"):
        for arm in ("listing", "ss"):
            row = {name: case[name] for name in shown} | {"arm": arm}
            for how in ("eager", "compiled"):
                ratios = {end: case[f"{arm}{end}_{how}"] for end in ("", "_low", "_high")}
                row |= {f"{how}_ms{end}": case[f"conv_ms_{how}"] * (ratio - 1) for end, ratio in ratios.items()}
            rows.append(row)
    spreads = [f"{how}_ms{end}" for how in ("eager", "compiled") for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=[*shown, "arm", *spreads])


def measured_twice(frame: pd.DataFrame) -> tuple[int, int]:
    """Count the cases in which a machine has timed Listing 1 twice, and those of them whose quartiles overlap.

    A second time because our layer was compiled and was not, which Listing 1 knows nothing of: the code is the same.

    Args:
        frame: From `study.speed_frame`.
    """
    listing = frame[frame["arm"] == "listing"]
    groups = listing.groupby(["profile", *SPEED_FIELDS, "device", "torch", "threads"], dropna=False)
    twice = groups.agg(n=("hash", "nunique"), first=("ratio_low", "max"), third=("ratio_high", "min")).query("n > 1")
    return len(twice), int((twice["first"] <= twice["third"]).sum())
