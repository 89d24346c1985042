"""Numbers and names as readers know them: WRN-10-2, α = 1/32, mean ± sd, an interval in one column."""

import math
import re

import pandas as pd

NAMES = {
    "wrn16_4": "WRN-16-4",
    "wrn10_2": "WRN-10-2",
    "densenet_bc_100_12": "DenseNet-BC-100-12",
    "densenet_bc_40_12": "DenseNet-BC-40-12",
    "resnext29_2x64d": "ResNeXt-29 (2x64d)",
    "resnext29_2x16d": "ResNeXt-29 (2x16d)",
    "long_range_cnn": "small CNN, generated task",
    "long_range_resnext": "small grouped CNN, generated task",
    "long_range_resnet": "small ResNet, generated task",
    "long_range_senet": "small SENet, generated task",
    "long_range_cnn_d3": "small CNN of 3 layers, generated task",
    "long_range_cnn_d6": "small CNN of 6 layers, generated task",
    "long_range_cnn_d8": "small CNN of 8 layers, generated task",
    "long_range_gcnet": "small CNN with global context, generated task",
    "long_range_dilated": "small dilated CNN, generated task",
    "long_range_narrow0625": "small CNN narrower by 1/16, generated task",
    "long_range_narrow25": "small CNN narrower by 1/4, generated task",
    "wrn10_2_narrow06": "WRN-10-2 narrower by .06",
    "wrn10_2_narrow25": "WRN-10-2 narrower by 1/4",
    "wrn10_2_se": "WRN-10-2 w/ SE",
    "wrn10_2_gc": "WRN-10-2 w/ global context",
    "wrn10_2_dilated": "WRN-10-2, dilated",
    "resnet50": "ResNet50",
    "resnet50_abn": "ResNet50 w/ ABN",
    "resnet14": "ResNet14",
    "resnet14_abn": "ResNet14 w/ ABN",
    "seresnet14": "SEResNet14",
    "densenet121": "DenseNet121",
    "resnext50_32x4d": "ResNeXt-50 (32x4d)",
    "seresnet50": "SEResNet50",
    "conv3x3": "3×3 convolution",
    "conv1x1": "1×1 convolution",
}


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """A table for readers: mean ± sd in one column, the interval in one, numbers to two decimals."""
    shown = pd.DataFrame(index=table.index)
    for name in table.columns:
        if f"{name}_sd" in table:
            shown[name] = [_plus_minus(m, sd) for m, sd in zip(table[name], table[f"{name}_sd"], strict=True)]
        elif name == "low" and "high" in table:
            shown["95 % interval"] = [interval(low, high) for low, high in zip(table.low, table.high, strict=True)]
        elif name == "gain_low":
            ends = zip(table["gain_low"], table["gain_high"], strict=True)
            shown["interval of the gain"] = [interval(low, high) for low, high in ends]
        elif not name.endswith("_sd") and name not in _NOT_SHOWN:
            shown[name] = [_FORMATS.get(name, number)(value) for value in table[name]]
    return shown


def number(value: object) -> str:
    """A number to two decimals, with a minus sign; empty where there is none."""
    if value is None or value is pd.NA or value != value:
        return ""
    if isinstance(value, float):
        return f"{round(value, 9):,.2f}".replace("-", "−")  # a mean of .275 may be .27499999999999997
    if isinstance(value, int) and abs(value) >= 10_000:
        return f"{value:,}".replace("-", "−")
    return str(value)


def p_text(p: float) -> str:
    """A p value to three decimals; empty where there is none."""
    return "" if p != p else "< 0.001" if p < 0.001 else f"{p:.3f}"


def alpha_text(alpha: float) -> str:
    """α as readers write it: 1/32 for a power of two, else .06 as 0.06."""
    inverse = 1 / alpha if alpha else 0
    power_of_two = inverse == int(inverse) and int(inverse) & (int(inverse) - 1) == 0
    return f"1/{inverse:.0f}" if power_of_two and 0 < alpha < 1 else f"{alpha:g}"


def power_text(value: float) -> str:
    """A small number as readers write it: 10⁻⁶, 3·10⁻⁶."""
    digits, exponent = f"{value:e}".split("e")
    digits = digits.rstrip("0").rstrip(".")
    power = "10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return power if digits == "1" else f"{digits}·{power}"


def model_text(name: str) -> str:
    """A network's name as readers know it."""
    return NAMES.get(name, name)


def at_least(share: float) -> str:
    """A share that must not look larger than it is: "over 99.9 %" of .99996, since 100 % means all."""
    tenths = math.floor(1000 * share)
    return f"{'over ' if share > tenths / 1000 else ''}{tenths / 10:g} %"


def plain(text: str) -> str:
    """The paper's sentences without LaTeX: ⌊αC⌋ = 0 instead of its source."""
    for source, sign in ((r"\\lfloor ?", "⌊"), (r" ?\\rfloor", "⌋"), (r"\\alpha ?", "α"), (r"\$", "")):
        text = re.sub(source, sign, text)
    return text


_NOT_SHOWN = ("high", "gain_high", "sentence", "unmatched", "best, selected on test")  # these are in the CSV alone
_FORMATS = {"alpha": alpha_text, "p": p_text, "p, Holm": p_text, "model": model_text}


def _plus_minus(mean: float, sd: float) -> str:
    return f"{number(mean)} ± {number(sd)}" if sd == sd else number(mean)


def interval(low: float, high: float) -> str:
    """An interval in words; empty where its ends are unknown."""
    return f"{number(low)} to {number(high)}" if low == low else ""
