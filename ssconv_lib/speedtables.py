"""From records of speed to the tables of chapter 4: each arm over plain convolution, machine by machine."""

import pandas as pd

from . import paper
from .readable import alpha_text, model_text
from .study import SPEED_FIELDS

ARMS = {
    "conv": "plain convolution",
    "listing": "ss, Listing 1",
    "ss": "ss, ours",
    "se": "SE",
    "se_listing": "SE + ss, Listing 1",
    "se_ss": "SE + ss, ours",
}
PAPERS = {"conv": ("resnet50", "conv"), "listing": ("resnet50", "ss"), "se": ("seresnet50", "conv")}  # Table 4's rows
PAPER_SETTING = {"source": "paper: GeForce GTX 1080 Ti", "batch": 256, "pixels": 224}  # its caption
LAYOUTS = {"nchw": "NCHW", "channels_last": "channels_last"}
AXES = {"alpha": "α", "channels": "channels", "pixels": "pixels", "batch": "batch"}
GPUS = ("NVIDIA", "AMD Instinct", "AMD Radeon", "Tesla", "GeForce", "Quadro")
GROUPS = {  # of `profiling.KINDS`, for a picture
    "convolution": ("convolution",),
    "norm, activation, pooling": ("batch norm", "activation", "pooling", "arithmetic"),
    "gather and copy": ("gather", "copy"),
    "allocation, views, dispatch": ("allocation", "dispatch", "other"),
    "outside operators": ("outside",),
}
_OF_ARM = ("", "_low", "_high", "_saved", "_peak")
_COLUMNS = (
    *("source", *SPEED_FIELDS, "n", "conv_ms", "conv_saved_mb", "conv_peak_mb"),
    *(f"{arm}{what}" for arm in ("listing", "ss") for what in _OF_ARM),
)


def is_gpu(device: str) -> bool:
    """Tell a GPU by its name."""
    return device.startswith(GPUS)


def source(row: pd.Series) -> str:
    """Where a measurement comes from: profile, device, threads where they matter, torch, our layer's form."""
    threads = "" if is_gpu(row["device"]) else f", {row['threads']} thread{'s' if row['threads'] > 1 else ''}"
    form = ", layer compiled" if row["native"] else ""
    return f"{row['profile']}: {row['device']}{threads}, torch {row['torch'].partition('+')[0]}{form}"


def latest(frame: pd.DataFrame, profile: str) -> pd.DataFrame:
    """Of a profile's measurements those of one machine, the one that measured last."""
    own = frame[frame["profile"] == profile]
    if own.empty:
        return own
    sources = own.apply(source, axis=1)
    return own[sources == sources[own["date"].idxmax()]]


def cases(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each measurement, with Listing 1 and our layer beside the plain convolution; by source.

    Args:
        frame: From `study.speed_frame`, of one profile or several.

    Returns:
        `source`, the fields that say what was measured, `n`, `conv_ms` an image; for the arms `listing` and `ss` the
        ratio of times, by the arm's name, its quartiles `_low` and `_high`, and the ratios of memory `_saved` and
        `_peak`; `conv_saved_mb` and `conv_peak_mb`.
    """
    rows = []
    for _, record in frame.groupby(["profile", "hash"], sort=False):
        arms = record.set_index("arm")
        conv = arms.loc["conv"]
        row = {"source": source(conv), **{name: conv[name] for name in SPEED_FIELDS}, "n": conv["n"]}
        row |= {"conv_ms": conv["ms_per_image"], "conv_saved_mb": conv["saved_mb"], "conv_peak_mb": conv["peak_mb"]}
        for name in ("listing", "ss"):
            if name in arms.index:
                arm = arms.loc[name]
                row |= {name: arm["ratio"], f"{name}_low": arm["ratio_low"], f"{name}_high": arm["ratio_high"]}
                row |= {f"{name}_{what}": _over(arm[f"{what}_mb"], conv[f"{what}_mb"]) for what in ("saved", "peak")}
        rows.append(row)
    table = pd.DataFrame(rows, columns=[*_COLUMNS])
    return table.sort_values("source", key=lambda names: pd.factorize(names)[0], kind="stable", ignore_index=True)


def _over(value: float | None, plain: float | None) -> float:
    return value / plain if value is not None and plain else float("nan")


def table4(frame: pd.DataFrame) -> pd.DataFrame:
    """Table 4, the paper's rows first, then every machine's; a ratio is to the plain convolution of the same source.

    Returns:
        Columns: source, pixels, batch, arm, n (rounds; the paper's runs), ms an image and ratio with quartiles.
    """
    plain = paper.value(4, *PAPERS["conv"])
    runs = int(paper.table(4)["n_runs"].iloc[0])
    rows = [
        {**PAPER_SETTING, "arm": arm, "n": runs, "ms": (ms := paper.value(4, *key)), "ratio": ms / plain}
        for arm, key in PAPERS.items()
    ]
    for row in frame.to_dict("records"):
        images = 1000 / row["batch"]
        rows.append(
            {
                "source": source(pd.Series(row)),
                **{name: row[name] for name in ("pixels", "batch", "arm", "n")},
                "ms": row["ms_per_image"],
                "ms_low": images * row["seconds_low"],
                "ms_high": images * row["seconds_high"],
                **{name: row[name] for name in ("ratio", "ratio_low", "ratio_high")},
            }
        )
    columns = ["source", "pixels", "batch", "arm", "n", "ms", "ms_low", "ms_high", "ratio", "ratio_low", "ratio_high"]
    return pd.DataFrame(rows, columns=columns)


def scaling(frame: pd.DataFrame) -> pd.DataFrame:
    """A layer's ratios along each of `AXES`, the others held at the values that most measurements have.

    Returns:
        A row for each source, layer, layout, axis, value and arm (listing, ss): ratio and quartiles, n, `conv_ms`,
        the plain layer's time for the batch, and `held`, in words. An axis with one value is left out.
    """
    columns = ["source", "network", "memory_format", "axis", "value", "arm", "n", "conv_ms"]
    columns += ["ratio", "ratio_low", "ratio_high", "held"]
    if frame.empty:
        return pd.DataFrame(columns=columns)
    frame = frame.assign(source=[source(row) for _, row in frame.iterrows()])
    conv = frame[frame["arm"] == "conv"].set_index("hash")["seconds"]
    parts = []
    for _, group in frame.groupby(["source", "network"], sort=False):
        usual = {axis: group[axis].value_counts().idxmax() for axis in AXES}
        alpha, channels, pixels, batch = usual.values()
        held = f"α = {alpha_text(alpha)}, {channels:.0f} channels, {pixels} pixels, batch {batch}"
        for axis in AXES:
            others = [group[other] == value for other, value in usual.items() if other != axis]
            part = group[pd.concat(others, axis=1).all(axis=1) & group["arm"].isin(["listing", "ss"])]
            if part[axis].nunique() > 1:
                parts.append(part.assign(axis=axis, value=part[axis].astype(float), held=held))
    if not parts:
        return pd.DataFrame(columns=columns)
    found = pd.concat(parts, ignore_index=True)
    found["conv_ms"] = 1000 * found["hash"].map(conv)
    return found[columns].sort_values(["source", "network", "memory_format", "axis", "value", "arm"], ignore_index=True)


def parts_of_a_step(profiles: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Add up `profiling.profile_arms` by `GROUPS`: arm, part, calls and milliseconds of a step."""
    group_of = {kind: group for group, kinds in GROUPS.items() for kind in kinds}
    rows = []
    for arm, operators in profiles.items():
        sums = operators.groupby(operators["kind"].map(group_of))[["calls", "seconds"]].sum()
        for group in GROUPS:
            calls, seconds = sums.loc[group] if group in sums.index else (0, 0.0)
            rows.append({"arm": arm, "part": group, "calls": calls, "ms": 1000 * seconds})
    return pd.DataFrame(rows)


def traffic(moved: dict[str, int]) -> pd.DataFrame:
    """What has to move for an image beside what moves: megabytes, share of the convolutions' own, times the least.

    Args:
        moved: From `profiling.bytes_moved`. Ours saves, gathers and restores; the least is one of these three: to read
            and to write each shuffled value once.
    """
    least = moved["shuffle"] / 3
    counts = {
        "inputs and outputs of all convolutions": moved["convolutions"],
        "the least: read and write what is shuffled": least,
        "ours: save, gather, restore": moved["shuffle"],
        "Listing 1: gather, and copy the whole input": moved["listing"],
    }
    share, times = "% of the convolutions'", "times the least"
    rows = [
        {"what": what, "MB": count / 1e6, share: 100 * count / moved["convolutions"], times: count / least}
        for what, count in counts.items()
    ]
    return pd.DataFrame(rows)


def extra_time(cases: pd.DataFrame, moved: dict[str, int], bytes_a_second: float) -> pd.DataFrame:
    """How much of the time that an arm adds to a step its bytes would take at the speed of a plain copy.

    Args:
        cases: From `cases`, of one network, image size, batch and precision.
        moved: From `profiling.bytes_moved` of the same.
        bytes_a_second: Read and written, from `profiling.copy_bandwidth`.
    """
    rows = []
    for case in cases.to_dict("records"):
        for arm, key in (("listing", "listing"), ("ss", "shuffle")):
            step = case["conv_ms"] * case["batch"]
            extra = {f"extra_ms{end}": step * (case[f"{arm}{end}"] - 1) for end in ("", "_low", "_high")}
            bytes_alone = {"MB": moved[key] / 1e6, "copy_ms": 1000 * moved[key] / bytes_a_second}
            rows.append({"memory_format": case["memory_format"], "arm": arm, **extra, **bytes_alone})
    return pd.DataFrame(rows)


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """A table of this module for readers: names in words, a median with its quartiles in one column."""
    shown = pd.DataFrame(index=table.index)
    for name in table.columns:
        if f"{name}_low" in table:
            bounds = zip(table[name], table[f"{name}_low"], table[f"{name}_high"], strict=True)
            shown[_HEADS.get(name, name)] = [_spread(*one, digits=2 if "ms" in name else 3) for one in bounds]
        elif not name.endswith(("_low", "_high")) and not table[name].isna().all():
            shown[_HEADS.get(name, name)] = [_text(name, value) for value in table[name]]
    return shown


_HEADS = {
    "memory_format": "layout",
    "conv_ms": "conv, ms an image",
    "extra_ms": "extra ms a step, measured",
    "copy_ms": "ms to copy its bytes",
    "eager_ms": "extra ms an image, eager",
    "compiled_ms": "extra ms an image, torch.compile",
    "ms": "ms an image",
    "ratio": "over conv",
    "listing": "Listing 1",
    "ss": "ours",
    "conv_saved_mb": "conv saves, MB",
    "conv_peak_mb": "conv's peak, MB",
    "listing_saved": "Listing 1 saves",
    "ss_saved": "ours saves",
    "listing_peak": "Listing 1's peak",
    "ss_peak": "our peak",
}
_NAMES = {"network": model_text, "arm": ARMS.get, "memory_format": LAYOUTS.get, "alpha": alpha_text}


def _text(name: str, value: object) -> str:
    if value is None or value != value:
        return ""
    if name in _NAMES:
        return _NAMES[name](value)
    if isinstance(value, float):
        return (
            f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3f}" if value < 10 else f"{value:.1f}"
        )
    return str(value)


def _spread(median: float, low: float, high: float, *, digits: int) -> str:
    if median != median:
        return ""
    text = f"{median:.{digits}f}" + (f" ({low:.{digits}f} to {high:.{digits}f})" if low == low else "")
    return text.replace("-", "−")
