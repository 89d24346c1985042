"""Chapter 7's tables of trained networks: what treating the wiring costs, and conv against ss on other images.

Every interval is a paired bootstrap over the test images: for other images of the kind and these networks. Where a
treatment is drawn several times it is over draws as well (`bootstrap.over_images_and_draws`). What another seed would
give is not in it, so each network, or pair of one seed, has rows of its own.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from . import readable
from .ablation import TREATMENT_TEXT
from .bootstrap import INTERVAL, over_images_and_draws, paired_bootstrap_mean
from .controlarms import CONTROL_TEXT
from .tables import DATA

NETWORK = ["source", "model", "alpha", "control", "seed", "network"]  # the columns that name a network
PAIR = ["conv", "ss", "difference", *INTERVAL, "p", "n"]
MEAN = "mean"  # over severities

Answers = dict[tuple, np.ndarray]  # by condition: bool (draws, N)


def with_source(frame: pd.DataFrame) -> pd.DataFrame:
    """Add the column `source`, "laptop (CIFAR-10)", to a frame of `probestudy.probe_frame`; keep one that is there."""
    if "source" in frame:
        return frame
    names = [f"{p} ({DATA.get(d, d)})" for p, d in zip(frame["profile"], frame["data"], strict=True)]
    return frame.assign(source=pd.Series(names, index=frame.index, dtype=object))


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """A table of this module for readers: treatments and controls by name, no hash, each interval in one column.

    The column of controls is left out where all networks have the paper's shuffle, or none.
    """
    text = table.drop(columns=["network", "beyond_low", "beyond_high"], errors="ignore")
    if "treatment" in text:
        text["treatment"] = text["treatment"].map(lambda how: TREATMENT_TEXT.get(how, how))
    if "control" in text:
        text["control"] = text["control"].map(control_text)
        if not text["control"].any():
            text = text.drop(columns="control")
    text = readable.readable(text)
    if "beyond_low" in table:
        ends = table[["beyond_low", "beyond_high"]].set_axis(["low", "high"], axis=1)
        text["beyond, 95 % interval"] = readable.readable(ends)["95 % interval"]
    return text


def control_text(control: str) -> str:
    """The name of a network's control in place of P, "" if there is none."""
    return "" if control == "none" else CONTROL_TEXT.get(control, control)


def wiring_table(frame: pd.DataFrame) -> pd.DataFrame:
    """What each treatment of all ss convolutions at once costs, by the probe "wiring".

    Args:
        frame: From `probestudy.probe_frame`, of any probes; likewise below.

    Returns:
        A row for each network that shuffles and treatment, "intact" first: error (%), drop (points of error above the
        intact network, in the mean over draws) and `drop_sd`, its sd over draws (nan of one), low and high (95 % over
        images and draws), detectable (a drop seen with 80 % power), n (images), draws.
    """
    rows = []
    for at, answers in networks(frame, "wiring", ["treatment"]):
        intact = answers["intact",]
        for (treatment,), wrong in answers.items() if len(answers) > 1 else ():
            row = {**at, "treatment": treatment, **_cost(intact, wrong, known=treatment != "intact")}
            rows.append(row)
    return pd.DataFrame(rows, columns=[*NETWORK, "treatment", "error", "drop", "drop_sd", *INTERVAL, "n", "draws"])


def shift_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Conv against ss on images moved by some pixels, in the mean over the four directions, by the probe "shift".

    Returns:
        A row for each pair, measure and shift (pixels): `conv` and `ss`, the share of images (%) whose answer is not
        that to the unmoved image (measure "changed"; 100 minus it is Zhang's consistency) or wrong ("error");
        difference (conv minus ss: positive is for shuffling), low and high (95 % over images), detectable, p, n.
    """
    rows = []
    for at, conv, ss in pairs(frame, "shift", ["measure", "shift"]):
        rows += [{**at, "measure": k[0], "shift": int(k[1]), **_against(conv[k], ss[k])} for k in ss if k in conv]
    return pd.DataFrame(rows, columns=[*NETWORK, "measure", "shift", *PAIR])


def size_table(frame: pd.DataFrame) -> pd.DataFrame:
    """What other input sizes cost, in each way to take them, by the probe "sizes".

    Returns:
        A row for each network, size (pixels) and way: error, drop (points of error above the network at its own size,
        as it is), drop_sd, low, high, detectable, n, draws (of a new π).
    """
    rows = []
    for at, answers in networks(frame, "sizes", ["size", "way"]):
        own = _own_size(answers)
        for (size, way), wrong in answers.items():
            known = (size, way) != (own, "as is")
            rows.append({**at, "size": int(size), "way": way, **_cost(answers[own, "as is"], wrong, known=known)})
    return pd.DataFrame(rows, columns=[*NETWORK, "size", "way", "error", "drop", "drop_sd", *INTERVAL, "n", "draws"])


def corruption_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Conv against ss on corrupted images, by the probe "corruptions".

    Returns:
        A row for each pair, corruption and severity, "none" first, and "mean" for all severities together: columns as
        `shift_table`'s, and `beyond`, with `beyond_low` and `beyond_high` (95 %): the difference less that on clean
        images, so what conv loses by the corruption above what ss loses.
    """
    rows = []
    for at, conv, ss in pairs(frame, "corruptions", ["corruption", "severity"]):
        clean = conv["none", 0], ss["none", 0]
        for corruption in dict.fromkeys(kind for kind, _ in ss):
            severities = {s: (conv[k, s], ss[k, s]) for k, s in ss if k == corruption}
            if corruption != "none":
                severities[MEAN] = tuple(np.concatenate(of) for of in zip(*severities.values(), strict=True))
            for severity, both in severities.items():
                severity = severity if severity == MEAN else int(severity)
                row = {**at, "corruption": corruption, "severity": severity, **_against(*both)}
                rows.append(row | ({} if corruption == "none" else _beyond(both, clean)))
    beyond = ["beyond", "beyond_low", "beyond_high"]
    return pd.DataFrame(rows, columns=[*NETWORK, "corruption", "severity", *PAIR, *beyond])


def networks(frame: pd.DataFrame, probe: str, keys: list[str]) -> Iterator[tuple[dict, Answers]]:
    """Each network's columns, and its answers to a probe by these parts of the condition, all others put together."""
    if frame.empty:
        return
    frame = with_source(frame)
    for key, group in frame[frame["probe"] == probe].groupby(NETWORK, sort=False):
        answers = {
            at: np.stack([np.asarray(one, dtype=bool) for one in of["wrong"]])
            for at, of in group.groupby(keys, sort=False)
        }
        yield dict(zip(NETWORK, key, strict=True)), answers


def pairs(frame: pd.DataFrame, probe: str, keys: list[str]) -> Iterator[tuple[dict, Answers, Answers]]:
    """Each network that shuffles, with the answers of the plain one of its seed and its own; others are left out."""
    found = list(networks(frame, probe, keys))
    same = ("source", "model", "seed")
    plain = {tuple(at[name] for name in same): answers for at, answers in found if at["alpha"] == 0}
    for at, answers in found:
        if at["alpha"] > 0 and (conv := plain.get(tuple(at[name] for name in same))):
            yield at, conv, answers


def _cost(reference: np.ndarray, wrong: np.ndarray, *, known: bool) -> dict[str, float]:
    """What a condition costs against another one of the same network."""
    errors = 100 * wrong.mean(1)
    row = {"error": errors.mean(), "n": wrong.shape[1], "draws": len(errors)}
    if known:
        cost = over_images_and_draws(reference, wrong)
        row |= {"drop": cost.mean, "drop_sd": errors.std(ddof=1) if len(errors) > 1 else float("nan")}
        row |= cost.interval
    return row


def _against(conv: np.ndarray, ss: np.ndarray) -> dict[str, float]:
    found = paired_bootstrap_mean(ss, conv)
    errors = {"conv": 100 * conv.mean(), "ss": 100 * ss.mean()}
    return {**errors, "difference": found.mean, **found.interval, "p": found.p, "n": found.n}


def _beyond(both: tuple[np.ndarray, np.ndarray], clean: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    """(conv - conv clean) - (ss - ss clean): twice a difference of two averages, which is what can be drawn."""
    conv, ss = both
    clean_conv, clean_ss = (of.repeat(len(conv), 0) for of in clean)
    found = paired_bootstrap_mean(np.concatenate([ss, clean_conv]), np.concatenate([conv, clean_ss]))
    interval = found.interval
    return {"beyond": 2 * found.mean, **{f"beyond_{end}": 2 * interval[end] for end in ("low", "high")}}


def _own_size(answers: Answers) -> int:
    """The one size at which nothing is resized back."""
    back = {size for size, way in answers if way == "resized back"}
    return next(size for size, _ in answers if size not in back)
